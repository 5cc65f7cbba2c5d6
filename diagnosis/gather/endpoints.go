package gather

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/annex-api/annex/diagnosis"
)

const (
	// maxEndpoints is how many addresses of one Service are tried.
	maxEndpoints = 20
	// attemptTimeout bounds each step of one way to one endpoint: the connection, the handshake, and the
	// questions together.
	attemptTimeout = 8 * time.Second
	// maxEndpointAnswer bounds what is read of each answer there.
	maxEndpointAnswer = 64 << 10
	// defaultPort is that of a reference to a Service which names none.
	defaultPort = 443
)

// endpoints are the addresses behind the Service, each tried by every way there is.
func (g *gathering) endpoints(ctx context.Context, a *apiregistrationv1.APIService, f *diagnosis.APIServiceFacts) diagnosis.Known[[]diagnosis.Endpoint] {
	slices, seen := f.EndpointSlices.Get()
	if !seen {
		return diagnosis.Unseen[[]diagnosis.Endpoint](f.EndpointSlices.Why())
	}
	service := f.Service.Value
	if service == nil { // who may not read Services may still read EndpointSlices
		return diagnosis.Unseen[[]diagnosis.Endpoint](f.Service.Why())
	}
	found := addresses(slices, portName(service, port(a.Spec.Service)))
	if service.Spec.Type == corev1.ServiceTypeExternalName {
		found = []diagnosis.Endpoint{{Address: net.JoinHostPort(service.Spec.ExternalName, strconv.Itoa(int(port(a.Spec.Service)))), Ready: true}}
	}
	ask := question{
		serverName: service.Name + "." + service.Namespace + ".svc",
		path:       "/apis/" + a.Spec.Group + "/" + a.Spec.Version,
	}
	own := len(g.Names) > 0 || g.Manifests != nil || !Available(a)
	var group sync.WaitGroup
	if g.ProbePod != nil {
		group.Go(func() { g.probePod(ctx, a, ask, service, f, found) })
	}
	for i := range found {
		e := &found[i]
		_, portText, err := net.SplitHostPort(e.Address)
		if err != nil {
			continue
		}
		number, err := strconv.ParseInt(portText, 10, 32)
		if err != nil {
			continue
		}
		pod := service.Namespace + "/" + e.Pod + " " + portText
		if e.Pod != "" {
			group.Go(func() {
				e.Forwarded = g.tried("port-forward "+pod, ask, own, func() diagnosis.Known[diagnosis.Attempt] {
					return g.attempt(ctx, ask, g.toPod(service.Namespace, e.Pod, int32(number)))
				})
			})
			group.Go(func() {
				e.Proxied = g.tried("proxy "+pod, ask, own, func() diagnosis.Known[diagnosis.Attempt] {
					return g.proxied(ctx, service.Namespace, e.Pod, portText, ask.path)
				})
			})
		}
		if g.Direct {
			group.Go(func() {
				e.Direct = g.tried("direct "+e.Address, ask, own, func() diagnosis.Known[diagnosis.Attempt] {
					return g.attempt(ctx, ask, func(ctx context.Context) (net.Conn, error) {
						return new(net.Dialer).DialContext(ctx, "tcp", e.Address)
					})
				})
			})
		}
	}
	group.Wait()
	return diagnosis.Saw(found)
}

// tried is an attempt by one way: one of its own for an APIService that was named, or is not available.
// For one among many that of whoever asked the endpoint first will do, but for what is said of the other's
// group version.
func (g *gathering) tried(way string, q question, own bool, try func() diagnosis.Known[diagnosis.Attempt]) diagnosis.Known[diagnosis.Attempt] {
	if own {
		return try()
	}
	a := once(&g.memo, "attempt "+way+" "+q.serverName, try)
	if said := a.Value.GroupVersion; said != nil && !strings.HasSuffix(said.Path, q.path) {
		a.Value.GroupVersion = nil
	}
	return a
}

// toPod dials by port-forward.
func (c *cluster) toPod(namespace, pod string, port int32) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) { return c.forward(ctx, namespace, pod, port) }
}

func port(s *apiregistrationv1.ServiceReference) int32 {
	if s.Port == nil {
		return defaultPort
	}
	return *s.Port
}

// portName is how EndpointSlices call a port of the Service.
func portName(s *corev1.Service, number int32) string {
	for _, p := range s.Spec.Ports {
		if p.Port == number {
			return p.Name
		}
	}
	return ""
}

// addresses are those of slices, on the port of that name.
func addresses(slices []discoveryv1.EndpointSlice, name string) []diagnosis.Endpoint {
	found := []diagnosis.Endpoint{}
	seen := map[string]bool{}
	for _, s := range slices {
		for _, p := range s.Ports {
			if p.Port == nil || p.Name != nil && *p.Name != name || p.Name == nil && name != "" {
				continue
			}
			for _, e := range s.Endpoints {
				for _, ip := range e.Addresses {
					address := net.JoinHostPort(ip, strconv.Itoa(int(*p.Port)))
					if seen[address] || len(found) == maxEndpoints {
						continue
					}
					seen[address] = true
					kept := diagnosis.Endpoint{Address: address, Ready: e.Conditions.Ready == nil || *e.Conditions.Ready}
					if e.TargetRef != nil && e.TargetRef.Kind == "Pod" {
						kept.Pod = e.TargetRef.Name
					}
					if e.NodeName != nil {
						kept.Node = *e.NodeName
					}
					found = append(found, kept)
				}
			}
		}
	}
	return found
}

// question is what an extension server is asked.
type question struct {
	serverName string
	path       string // of its group version
}

// attempt connects in one way, and asks without an identity. A way that is closed to the caller shows
// nothing of the endpoint: that is no attempt. Each step has a time of its own, so that what an API server
// or a kubelet takes of it is not the endpoint's.
func (g *gathering) attempt(ctx context.Context, q question, dial func(context.Context) (net.Conn, error)) diagnosis.Known[diagnosis.Attempt] {
	select {
	case g.slots <- struct{}{}:
		defer func() { <-g.slots }()
	case <-ctx.Done():
		return diagnosis.Unseen[diagnosis.Attempt](ctx.Err())
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	step := time.AfterFunc(attemptTimeout, func() { cancel(timedOut{}) })
	defer step.Stop()
	said := func(err error) string {
		if errors.Is(context.Cause(ctx), diagnosis.ErrTimedOut) {
			return timedOut{}.Error()
		}
		return err.Error()
	}
	var a diagnosis.Attempt
	begin := time.Now()
	raw, err := dial(ctx)
	a.Took = time.Since(begin)
	if err != nil {
		var closed closedWay
		switch {
		case errors.As(err, &closed) && errors.Is(context.Cause(ctx), diagnosis.ErrTimedOut):
			return diagnosis.Unseen[diagnosis.Attempt](fmt.Errorf("%w: %w", diagnosis.ErrTimedOut, closed.why()))
		case errors.As(err, &closed):
			return diagnosis.Unseen[diagnosis.Attempt](closed.why())
		}
		a.Failure = said(err)
		return diagnosis.Saw(a)
	}
	defer raw.Close()
	step.Reset(attemptTimeout)
	conn := tls.Client(raw, shown(q.serverName, &a))
	if err := conn.HandshakeContext(ctx); err != nil {
		var refused refusedError
		if errors.As(err, &refused) {
			a.Failure = refused.Error() // the kubelet found nobody at the port
			return diagnosis.Saw(a)
		}
		a.TLSFailure = said(err)
		return diagnosis.Saw(a)
	}
	step.Reset(attemptTimeout)
	ask := asker(conn, q.serverName)
	defer ask.CloseIdleConnections()
	a.GroupVersion = ask.get(ctx, q.path)
	if a.GroupVersion.Failure != "" {
		a.GroupVersion.Failure = said(errors.New(a.GroupVersion.Failure))
	}
	if a.GroupVersion.Failure == "" {
		a.Groups = ask.get(ctx, "/apis")
		a.OpenAPIV2 = ask.get(ctx, "/openapi/v2")
		a.Readyz = ask.get(ctx, "/readyz?verbose")
	}
	return diagnosis.Saw(a)
}

// shown is a handshake that verifies nothing and keeps all: to see what is wrong is what it is for.
// Nothing secret is sent over it.
func shown(serverName string, a *diagnosis.Attempt) *tls.Config {
	return &tls.Config{
		ServerName:         serverName,
		InsecureSkipVerify: true,
		MinVersion:         tls.VersionTLS10,
		NextProtos:         []string{"http/1.1"},
		VerifyConnection: func(s tls.ConnectionState) error {
			a.Chain = s.PeerCertificates[:min(len(s.PeerCertificates), maxCertificates)]
			return nil
		},
		GetClientCertificate: func(r *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			a.ClientCAs = r.AcceptableCAs[:min(len(r.AcceptableCAs), maxCertificates)]
			return &tls.Certificate{}, nil
		},
	}
}

// onConnection asks over one connection.
type onConnection struct {
	*http.Transport
	host string
}

func asker(conn net.Conn, host string) onConnection {
	left := make(chan net.Conn, 1)
	left <- conn
	return onConnection{host: host, Transport: &http.Transport{
		MaxConnsPerHost: 1,
		DialTLSContext: func(context.Context, string, string) (net.Conn, error) {
			select {
			case c := <-left:
				return c, nil
			default:
				return nil, errors.New("the server closed the connection")
			}
		},
	}}
}

func (o onConnection) get(ctx context.Context, path string) *diagnosis.Answer {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+o.host+path, nil)
	if err != nil {
		return &diagnosis.Answer{Failure: err.Error()}
	}
	q.Header.Set("Accept", "application/json")
	q.Header.Set("User-Agent", "annex-doctor")
	a := reply{sent: time.Now()}
	response, err := o.RoundTrip(q)
	if err == nil {
		defer response.Body.Close()
		a.code, a.header = response.StatusCode, response.Header
		a.body, err = io.ReadAll(io.LimitReader(response.Body, maxEndpointAnswer))
	}
	a.ended = time.Now()
	answer := answerOf(a, err)
	answer.Path = path
	return &answer
}

// proxied asks a Pod through the API server, which connects over the network that requests for the
// extension server use.
func (g *gathering) proxied(ctx context.Context, namespace, pod, port, path string) diagnosis.Known[diagnosis.Attempt] {
	r := request{path: "/api/v1/namespaces/" + namespace + "/pods/https:" + pod + ":" + port + "/proxy" + path, most: maxEndpointAnswer}
	answer, whole, err := g.answered(ctx, r)
	a := diagnosis.Attempt{Took: answer.Took}
	switch {
	case err != nil && !errors.Is(err, diagnosis.ErrTimedOut):
		// It is the caller's connection to the API server that failed.
		return diagnosis.Unseen[diagnosis.Attempt](err)
	case answer.Failure != "" && answer.Code == 0:
		a.Failure = answer.Failure
	case answer.Status != nil && answer.Code == http.StatusForbidden && strings.Contains(answer.Status.Message, "pods/proxy"):
		return diagnosis.Unseen[diagnosis.Attempt](refusal(r.path, whole))
	case answer.Code >= http.StatusInternalServerError && unreached(string(whole.body)):
		a.Failure = message(whole)
	default:
		a.GroupVersion = &answer
	}
	return diagnosis.Saw(a)
}

// unreached says whether an answer is that of an API server which did not reach the Pod.
func unreached(body string) bool {
	return strings.Contains(body, "error trying to reach service") || strings.Contains(body, "dial tcp") ||
		strings.Contains(body, "Address is not allowed") || strings.Contains(body, "No agent available")
}
