package kubeapiservertest

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/annex-api/annex/internal/testcerts"
)

// DiscoveryV2 is the media type of aggregated discovery.
const DiscoveryV2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"

// Request is what an extension server received.
type Request struct {
	Method, URI, Path, Proto, Host string
	Header                         http.Header
	// Client is the common name of the certificate that the proxy showed.
	Client string
	// Remote tells connections apart.
	Remote string
}

// Extension is an extension server on a loopback port, behind the Service
// default/<Name>. It answers discovery for the group versions that it serves,
// and everything else with a JSON object that names the path.
type Extension struct {
	Name string
	Port int32
	CA   *testcerts.Authority

	listener    *listener
	certificate atomic.Pointer[tls.Certificate]
	handshakes  handshakeLog
	http1       atomic.Bool
	shown       sync.Map // by a connection's remote address: the certificate

	mu       sync.Mutex
	active   map[*tls.Certificate]int
	serves   []schema.GroupVersion
	handlers map[string]http.HandlerFunc
	fallback http.HandlerFunc
	requests []Request
}

// NewExtension starts an extension server that ends with the test.
func NewExtension(t testing.TB, name string, serves ...schema.GroupVersion) *Extension {
	t.Helper()
	ca := testcerts.New("ca-of-" + name)
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listening: %v", err)
	}
	e := &Extension{
		Name: name, CA: ca, listener: &listener{Listener: raw}, serves: serves,
		Port: int32(raw.Addr().(*net.TCPAddr).Port), handlers: map[string]http.HandlerFunc{},
		active: map[*tls.Certificate]int{},
	}
	e.SetCertificate(ca, testcerts.Subject{Name: name, Hosts: []string{e.ServerName()}})
	server := &http.Server{
		Handler: e,
		TLSConfig: &tls.Config{
			ClientAuth: tls.RequestClientCert,
			GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
				c := e.certificate.Load()
				e.shown.Store(hello.Conn.RemoteAddr().String(), c)
				return c, nil
			},
			GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
				if !e.http1.Load() {
					return nil, nil // the config itself
				}
				return &tls.Config{
					ClientAuth: tls.RequestClientCert, NextProtos: []string{"http/1.1"},
					Certificates: []tls.Certificate{*e.certificate.Load()},
				}, nil
			},
		},
		ErrorLog: log.New(&e.handshakes, "", 0),
		ConnState: func(conn net.Conn, state http.ConnState) {
			if c, ok := e.shown.Load(conn.RemoteAddr().String()); ok && state == http.StateActive {
				e.mu.Lock()
				defer e.mu.Unlock()
				e.active[c.(*tls.Certificate)]++
			}
		},
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.ServeTLS(e.listener, "", "") // ends when it is closed
	}()
	t.Cleanup(func() {
		server.Close()
		e.CloseConnections()
		<-ended
	})
	return e
}

// ServerName is the name that the extension server's certificate must carry.
func (e *Extension) ServerName() string { return e.Name + ".default.svc" }

// SetCertificate changes what is shown from the next handshake on.
func (e *Extension) SetCertificate(ca *testcerts.Authority, s testcerts.Subject) {
	c := ca.Issue(s).TLS()
	e.certificate.Store(&c)
}

// CloseConnections breaks all connections; new ones are accepted.
func (e *Extension) CloseConnections() { e.listener.closeAll() }

// UseHTTP1 speaks HTTP/1.1 only, from now on: handlers can take over
// connections.
func (e *Extension) UseHTTP1() {
	e.http1.Store(true)
	e.CloseConnections()
}

// Connections is how many were accepted at all.
func (e *Extension) Connections() int64 { return e.listener.accepted.Load() }

// Active counts how often a connection on which the current certificate was
// shown got past the handshake: a byte of a request, or of HTTP/2, came.
func (e *Extension) Active() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.active[e.certificate.Load()]
}

// FailedHandshakes is how many the other side broke off.
func (e *Extension) FailedHandshakes() int64 { return e.handshakes.failed.Load() }

// Handle answers one path; "*" answers all that no other handler does, except
// for discovery.
func (e *Extension) Handle(path string, h http.HandlerFunc) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if path == "*" {
		e.fallback = h
		return
	}
	e.handlers[path] = h
}

// Serve replaces the group versions that discovery lists.
func (e *Extension) Serve(gvs ...schema.GroupVersion) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.serves = gvs
}

// Requests lists what was received for paths below prefix, without what the
// server asks on its own account.
func (e *Extension) Requests(prefix string) []Request {
	return e.received(prefix, false)
}

// OwnRequests lists what the server asked on its own account below prefix.
func (e *Extension) OwnRequests(prefix string) []Request {
	return e.received(prefix, true)
}

func (e *Extension) received(prefix string, own bool) []Request {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []Request
	for _, r := range e.requests {
		user := r.Header.Get("X-Remote-User")
		isOwn := user == "system:kube-aggregator" || user == "system:aggregator"
		if isOwn == own && strings.HasPrefix(r.Path, prefix) {
			out = append(out, r)
		}
	}
	return out
}

// ServeHTTP implements http.Handler.
func (e *Extension) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	received := Request{
		Method: r.Method, URI: r.RequestURI, Path: r.URL.Path, Proto: r.Proto, Host: r.Host,
		Header: r.Header.Clone(), Remote: r.RemoteAddr,
	}
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		received.Client = r.TLS.PeerCertificates[0].Subject.CommonName
	}
	e.mu.Lock()
	e.requests = append(e.requests, received)
	handler, serves, fallback := e.handlers[r.URL.Path], slices.Clone(e.serves), e.fallback
	e.mu.Unlock()
	switch {
	case handler != nil:
		handler(w, r)
	case answerDiscovery(w, r, serves):
	case fallback != nil:
		fallback(w, r)
	case strings.HasPrefix(r.URL.Path, "/openapi/"):
		http.NotFound(w, r)
	default:
		JSON(w, map[string]string{"kind": "Echo", "path": r.URL.Path, "by": e.Name})
	}
}

// JSON answers with a value.
func JSON(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(value)
}

func answerDiscovery(w http.ResponseWriter, r *http.Request, serves []schema.GroupVersion) bool {
	if r.URL.Path == "/apis" {
		w.Header().Set("Content-Type", DiscoveryV2)
		_ = json.NewEncoder(w).Encode(AggregatedDiscovery(serves...))
		return true
	}
	for _, gv := range serves {
		if r.URL.Path == "/apis/"+gv.String() {
			JSON(w, metav1.APIResourceList{
				TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: gv.String(),
				APIResources: []metav1.APIResource{{
					Name: "things", SingularName: "thing", Kind: "Thing", Namespaced: true, Verbs: metav1.Verbs{"get", "list"},
				}},
			})
			return true
		}
	}
	return false
}

// AggregatedDiscovery is a document with the resource things in each group
// version.
func AggregatedDiscovery(gvs ...schema.GroupVersion) apidiscoveryv2.APIGroupDiscoveryList {
	list := apidiscoveryv2.APIGroupDiscoveryList{
		TypeMeta: metav1.TypeMeta{Kind: "APIGroupDiscoveryList", APIVersion: "apidiscovery.k8s.io/v2"},
	}
	for _, gv := range gvs {
		list.Items = append(list.Items, apidiscoveryv2.APIGroupDiscovery{
			ObjectMeta: metav1.ObjectMeta{Name: gv.Group},
			Versions: []apidiscoveryv2.APIVersionDiscovery{{
				Version: gv.Version, Freshness: apidiscoveryv2.DiscoveryFreshnessCurrent,
				Resources: []apidiscoveryv2.APIResourceDiscovery{{
					Resource: "things", SingularResource: "thing", Scope: apidiscoveryv2.ScopeNamespace,
					ResponseKind: &metav1.GroupVersionKind{Group: gv.Group, Version: gv.Version, Kind: "Thing"},
					Verbs:        []string{"get", "list"},
				}},
			}},
		})
	}
	return list
}

// listener remembers the connections that it accepted.
type listener struct {
	net.Listener
	accepted atomic.Int64

	mu    sync.Mutex
	conns []net.Conn
}

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.accepted.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns = append(l.conns, c)
	return c, nil
}

func (l *listener) closeAll() {
	l.mu.Lock()
	conns := l.conns
	l.conns = nil
	l.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
	}
}

// handshakeLog counts the failed handshakes that net/http logs.
type handshakeLog struct{ failed atomic.Int64 }

func (h *handshakeLog) Write(line []byte) (int, error) {
	if strings.Contains(string(line), "TLS handshake error") {
		h.failed.Add(1)
	}
	return len(line), nil
}

// Hijack takes over the connection of a request, for handlers that answer byte
// for byte; text is written to it. The caller closes it.
func Hijack(w http.ResponseWriter, text string) (net.Conn, error) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, fmt.Errorf("taking over the connection: %w", err)
	}
	_, err = conn.Write([]byte(text))
	return conn, err
}
