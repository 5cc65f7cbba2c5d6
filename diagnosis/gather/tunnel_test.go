package gather

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/gorilla/websocket"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/portforward"
	clientportforward "k8s.io/client-go/tools/portforward"
	"k8s.io/klog/v2"
	streamhttp "k8s.io/streaming/pkg/httpstream"
	streamspdy "k8s.io/streaming/pkg/httpstream/spdy"

	"github.com/annex-api/annex/diagnosis"
	"github.com/annex-api/annex/internal/testcerts"
)

// kubelet forwards ports of its Pods to addresses here; the others refuse.
type kubelet map[string]string

// serve joins the streams of a connection as a kubelet does: an error stream and a data stream to
// each port, which arrive in any order.
func (k kubelet) serve(streams streamhttp.Connection, arrived <-chan streamhttp.Stream) {
	pairs := map[string]map[string]streamhttp.Stream{}
	for {
		select {
		case <-streams.CloseChan():
			return
		case s := <-arrived:
			id := s.Headers().Get(corev1.PortForwardRequestIDHeader)
			if pairs[id] == nil {
				pairs[id] = map[string]streamhttp.Stream{}
			}
			pairs[id][s.Headers().Get(corev1.StreamType)] = s
			if data, problems := pairs[id][corev1.StreamTypeData], pairs[id][corev1.StreamTypeError]; data != nil && problems != nil {
				k.forward(data, problems)
			}
		}
	}
}

func (k kubelet) forward(data, problems streamhttp.Stream) {
	defer data.Close()
	defer problems.Close()
	to, has := k[data.Headers().Get(corev1.PortHeader)]
	if !has {
		_, _ = io.WriteString(problems, "failed to connect to localhost: connection refused") // the test sees it
		return
	}
	conn, err := net.Dial("tcp", to)
	if err != nil {
		_, _ = io.WriteString(problems, err.Error()) // the test sees it
		return
	}
	var both sync.WaitGroup
	both.Go(func() { _, _ = io.Copy(conn, data); _ = conn.Close() }) // ends with either side
	both.Go(func() { _, _ = io.Copy(data, conn) })
	both.Wait()
}

// handler upgrades a request for port-forward, by WebSocket only where it may.
func (k kubelet) handler(webSocket bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		arrived := make(chan streamhttp.Stream, 10)
		accept := func(s streamhttp.Stream, replySent <-chan struct{}) error {
			go func() { <-replySent; arrived <- s }() // it ends with the reply
			return nil
		}
		switch {
		case websocket.IsWebSocketUpgrade(r) && !webSocket:
			http.Error(w, "no WebSockets here", http.StatusBadRequest)
		case websocket.IsWebSocketUpgrade(r):
			upgrader := websocket.Upgrader{Subprotocols: []string{portforward.WebsocketsSPDYTunnelingPortForwardV1}}
			conn, err := upgrader.Upgrade(w, r, nil)
			if err != nil {
				return // it has answered
			}
			streams, err := streamspdy.NewServerConnection(clientportforward.NewTunnelingConnectionWithLogger(klog.Logger{}, conn), accept)
			if err == nil {
				k.serve(streams, arrived)
			}
		default:
			w.Header().Set(streamhttp.HeaderProtocolVersion, portforward.PortForwardV1Name)
			if streams := streamspdy.NewResponseUpgrader().UpgradeResponse(w, r, accept); streams != nil {
				defer streams.Close()
				k.serve(streams, arrived)
			}
		}
	}
}

func TestPortForwardShowsTheExtensionServer(t *testing.T) {
	ca := testcerts.New("an authority")
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" || r.Host != "things.shop.svc" {
			t.Errorf("asked as %q for host %q", r.Header.Get("Authorization"), r.Host)
		}
		switch r.URL.Path {
		case "/apis/things.example.com/v1":
			http.Error(w, "Unauthorized", http.StatusUnauthorized)
		default:
			_, _ = io.WriteString(w, "it is "+r.URL.Path) // a client that is gone wants nothing
		}
	}))
	server.TLS = &tls.Config{
		Certificates: []tls.Certificate{ca.Issue(testcerts.Subject{Name: "things", Hosts: []string{"things.shop.svc"}}).TLS()},
		ClientAuth:   tls.RequestClientCert, ClientCAs: ca.Pool(),
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	pod := kubelet{"8443": server.Listener.Addr().String(), "80": plain.Listener.Addr().String()}

	for name, webSocket := range map[string]bool{"WebSocket": true, "SPDY": false} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			f.handle("/api/v1/namespaces/shop/pods/things-0/portforward", pod.handler(webSocket))
			g := &gathering{cluster: f.cluster(t)}
			try := func(port int32) diagnosis.Known[diagnosis.Attempt] {
				q := question{serverName: "things.shop.svc", path: "/apis/things.example.com/v1"}
				return g.attempt(t.Context(), q, g.toPod("shop", "things-0", port))
			}
			a := try(8443).Value
			if a.Failure != "" || a.TLSFailure != "" || len(a.Chain) != 1 || a.Chain[0].Subject.CommonName != "things" || len(a.ClientCAs) != 1 {
				t.Fatalf("got %+v", a)
			}
			if a.GroupVersion.Code != http.StatusUnauthorized || a.Groups.Code != http.StatusOK || string(a.Readyz.Body) != "it is /readyz" {
				t.Errorf("answers %+v %+v %+v", a.GroupVersion, a.Groups, a.Readyz)
			}
			if a := try(9443).Value; !strings.Contains(a.Failure, "connection refused") || a.Took == 0 {
				t.Errorf("nobody listens: %+v", a)
			}
			if a := try(80).Value; !strings.Contains(a.TLSFailure, "first record does not look like a TLS handshake") {
				t.Errorf("no TLS: %+v", a)
			}
		})
	}
}

func TestPortForwardThatIsForbiddenIsNoAttempt(t *testing.T) {
	f := newFake(t)
	f.otherwise = forbid
	g := &gathering{cluster: f.cluster(t)}
	got := g.attempt(t.Context(), question{}, g.toPod("shop", "things-0", 8443))
	if got.Seen || !errors.Is(got.Why(), diagnosis.ErrForbidden) {
		t.Errorf("got %+v", got)
	}
}

func TestEndpointsAreTriedByEachWay(t *testing.T) {
	f := newFake(t)
	f.shop()
	f.handle("/api/v1/namespaces/shop/pods/https:things-0:8443/proxy/apis/things.example.com/v1", func(w http.ResponseWriter, _ *http.Request) {
		answerStatus(w, http.StatusServiceUnavailable, "ServiceUnavailable", "error trying to reach service: dial tcp 10.1.0.7:8443: i/o timeout")
	})
	f.handle("/api/v1/namespaces/shop/pods/things-0/portforward", forbid)
	e := facts(t, f, nil).APIServices[things].Endpoints.Value[0]
	if !strings.Contains(e.Proxied.Value.Failure, "i/o timeout") || !errors.Is(e.Forwarded.Why(), diagnosis.ErrForbidden) || e.Direct.Why() != diagnosis.ErrNotAsked {
		t.Errorf("got %+v", e)
	}
}
