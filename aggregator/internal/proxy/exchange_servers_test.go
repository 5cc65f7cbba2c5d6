package proxy_test

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/sha256"
	"crypto/tls"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/klog/v2"

	"github.com/annex-api/annex/aggregator/internal/backend"
	"github.com/annex-api/annex/aggregator/internal/backend/limit"
	"github.com/annex-api/annex/aggregator/internal/backendtest"
	"github.com/annex-api/annex/aggregator/internal/catalog"
	"github.com/annex-api/annex/aggregator/internal/proxy"
	"github.com/annex-api/annex/internal/testcerts"
)

const (
	serviceName = "things"
	things      = "/apis/a.example/v1/things"
	// soon is much longer than anything here takes when it works.
	soon = time.Minute
)

// lab is an extension server with several endpoints behind a proxy. It counts
// how often a handler of any of them saw a request, by the request's id.
type lab struct {
	t         testing.TB
	authority *testcerts.Authority
	pair      tls.Certificate
	limits    backend.Config
	object    map[string]string // annotations
	servers   []*backendtest.Server
	pool      *backend.Pool
	proxy     *proxy.Proxy
	service   *catalog.APIService
	client    *http.Client // over HTTP/1.1
	url       string
	// change makes another request of one that comes to the proxy, after the filters
	// before it. It may be nil.
	change func(*http.Request) *http.Request
	logger *logr.Logger // of requests; nil for the usual one

	clientOver2 *http.Client // over HTTP/2

	mu   sync.Mutex
	ends []string            // how attempts have ended, see listen
	seen map[string][]string // id -> endpoints, in order
	body map[string][sha256.Size]byte
}

func newLab(t testing.TB) *lab {
	a := testcerts.New(serviceName)
	return &lab{
		t: t, authority: a, pair: a.Issue(testcerts.Subject{Hosts: []string{backendtest.ServerName(serviceName)}}).TLS(),
		object: map[string]string{}, seen: map[string][]string{}, body: map[string][sha256.Size]byte{},
	}
}

// saw counts a request at an endpoint.
func (l *lab) saw(id, endpoint string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen[id] = append(l.seen[id], endpoint)
}

func (l *lab) sightings(id string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.seen[id]...)
}

func (l *lab) total() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, at := range l.seen {
		n += len(at)
	}
	return n
}

// works adds an endpoint that answers: 201 and nothing to requests that change
// something, "whole" to the others.
func (l *lab) works() *backendtest.Server {
	return l.handler("works", func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			_, _ = io.WriteString(w, "whole")
			return
		}
		w.WriteHeader(http.StatusCreated)
	})
}

// handler adds an endpoint with a handler; bodies are read and noted first.
func (l *lab) handler(name string, h http.HandlerFunc) *backendtest.Server {
	config := &tls.Config{Certificates: []tls.Certificate{l.pair}}
	s := backendtest.StartTLS(l.t, serviceName, l.authority.PEM, config, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.URL.Query().Get("id")
		l.saw(id, name)
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // nobody waits for the answer, nor perhaps the test for this handler
		}
		l.mu.Lock()
		l.body[id] = sha256.Sum256(body)
		l.mu.Unlock()
		h(w, r)
	}))
	l.servers = append(l.servers, s)
	return s
}

// raw adds an endpoint that does with each TLS connection what the test says;
// protocols are what it offers. The connection is closed when serve returns.
func (l *lab) raw(config *tls.Config, serve func(*tls.Conn)) {
	l.t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		l.t.Fatal(err)
	}
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	closed := false
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			if closed {
				conn.Close()
			}
			open[conn] = true
			mu.Unlock()
			serving.Go(func() {
				defer conn.Close()
				c := tls.Server(conn, config)
				if c.Handshake() == nil {
					serve(c)
				}
				mu.Lock()
				delete(open, conn)
				mu.Unlock()
			})
		}
	})
	l.t.Cleanup(func() {
		_ = listener.Close()
		mu.Lock()
		closed = true
		for c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		serving.Wait()
	})
	l.servers = append(l.servers, &backendtest.Server{Service: serviceName, Address: listener.Addr().String(), CA: l.authority.PEM})
}

// http1 adds an endpoint that speaks HTTP/1.1, and after the header of a
// request does what the test says; then it closes the connection.
func (l *lab) http1(name string, do func(net.Conn, *http.Request)) {
	l.raw(&tls.Config{Certificates: []tls.Certificate{l.pair}, NextProtos: []string{"http/1.1"}}, func(c *tls.Conn) {
		r, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil {
			return
		}
		l.saw(r.URL.Query().Get("id"), name)
		do(c, r)
	})
}

// stream is a request on a connection of an http2 endpoint.
type stream struct {
	*http2.Framer
	conn   net.Conn
	number uint32
	nth    int // of the endpoint's connections, from 1
	fields map[string]string
	alone  bool // the header is all of the request
	body   bytes.Buffer
}

func (s *stream) id() string {
	u, err := url.Parse(s.fields[":path"])
	if err != nil {
		return ""
	}
	return u.Query().Get("id")
}

// respond sends a header, and a body if there is one. Fields are names and values.
func (s *stream) respond(status, body string, end bool, fields ...string) {
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	_ = encoder.WriteField(hpack.HeaderField{Name: ":status", Value: status})
	for i := 0; i < len(fields); i += 2 {
		_ = encoder.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	_ = s.WriteHeaders(http2.HeadersFrameParam{StreamID: s.number, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: end && body == ""})
	if body != "" {
		_ = s.WriteData(s.number, end, []byte(body))
	}
}

// moments of a stream at which an http2 endpoint does what the test says.
// Nil is nothing.
type moments struct {
	settings            func(*http2.SettingsFrame) // of a connection
	headerLimit         uint32                     // that the endpoint announces, if it is not 0
	header, body, reset func(*stream)
}

// http2 adds an endpoint that speaks HTTP/2 frame by frame.
func (l *lab) http2(do moments) {
	var mu sync.Mutex
	connections := 0
	l.raw(&tls.Config{Certificates: []tls.Certificate{l.pair}, NextProtos: []string{"h2"}}, func(c *tls.Conn) {
		mu.Lock()
		connections++
		nth := connections
		mu.Unlock()
		preface := make([]byte, len(http2.ClientPreface))
		if _, err := io.ReadFull(c, preface); err != nil {
			return
		}
		framer := http2.NewFramer(c, c)
		framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
		settings := []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 1 << 20}}
		if do.headerLimit > 0 {
			settings = append(settings, http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: do.headerLimit})
		}
		_ = framer.WriteSettings(settings...)
		_ = framer.WriteWindowUpdate(0, 1<<20)
		streams := map[uint32]*stream{}
		call := func(f func(*stream), s *stream) {
			if f != nil && s != nil {
				f(s)
			}
		}
		for {
			frame, err := framer.ReadFrame()
			if err != nil {
				return
			}
			number := frame.Header().StreamID
			switch frame := frame.(type) {
			case *http2.SettingsFrame:
				if !frame.IsAck() {
					if do.settings != nil {
						do.settings(frame)
					}
					_ = framer.WriteSettingsAck()
				}
			case *http2.PingFrame:
				if !frame.IsAck() {
					_ = framer.WritePing(true, frame.Data)
				}
			case *http2.MetaHeadersFrame:
				s := &stream{Framer: framer, conn: c, number: number, nth: nth, fields: map[string]string{}, alone: frame.StreamEnded()}
				for _, f := range frame.Fields {
					s.fields[f.Name] = f.Value
				}
				streams[number] = s
				call(do.header, s)
				if frame.StreamEnded() {
					call(do.body, s)
				}
			case *http2.DataFrame:
				if s := streams[number]; s != nil {
					s.body.Write(frame.Data())
				}
				if frame.StreamEnded() {
					call(do.body, streams[number])
				}
			case *http2.RSTStreamFrame:
				call(do.reset, streams[number])
			}
		}
	})
}

// snapshot is the state with the given endpoints. The first is in the proxy's
// own zone and the others are not, so that it is tried first.
func (l *lab) snapshot(servers ...*backendtest.Server) *catalog.Snapshot {
	object := servers[0].APIService("v1.a.example")
	object.Annotations = l.object
	facts := backendtest.Facts([]*apiService{object}, servers...)
	facts.Zone = "here"
	facts.Documents[object.Name] = backendtest.Things()
	for _, s := range facts.Services {
		for i, slice := range s.Slices {
			zone := "here"
			if i > 0 {
				zone = "there"
			}
			slice.Endpoints[0].Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: zone}}}
		}
	}
	return catalog.Build(facts)
}

// start runs the proxy in front of the endpoints that were added.
func (l *lab) start() {
	l.t.Helper()
	l.pool = backend.New(l.limits)
	l.t.Cleanup(l.pool.Close)
	p := proxy.New(proxy.Config{Backends: l.pool})
	l.proxy = p
	l.sync(l.snapshot(l.servers...))
	resolver := &request.RequestInfoFactory{APIPrefixes: sets.NewString("api", "apis"), GrouplessAPIPrefixes: sets.NewString("api")}
	l.front(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who := cmp.Or(r.Header.Get("Test-User"), "somebody")
		ctx := request.WithUser(r.Context(), &user.DefaultInfo{Name: who})
		info, err := resolver.NewRequestInfo(r)
		if err != nil {
			l.t.Errorf("%s: %v", r.URL, err)
			return
		}
		l.mu.Lock()
		service := l.service
		l.mu.Unlock()
		if l.logger != nil {
			ctx = klog.NewContext(ctx, *l.logger)
		}
		r = r.WithContext(request.WithRequestInfo(ctx, info))
		if l.change != nil {
			r = l.change(r)
		}
		p.Serve(w, r, service, priority(r.Header.Get("Test-Priority")))
	}))
}

// warm connects to every endpoint, past the balancing. What bounds an answer
// bounds its connection too, and a handshake takes as long as it takes.
func (l *lab) warm() {
	l.t.Helper()
	for _, s := range l.servers {
		r, err := http.NewRequest(http.MethodGet, "https://"+s.Address+things+"?id=warm", nil)
		if err != nil {
			l.t.Fatal(err)
		}
		response, err := l.pool.Get(l.service).RoundTrip(r)
		if err != nil {
			l.t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
	}
}

// priority is that of a header of the tests.
func priority(said string) limit.Priority {
	switch said {
	case "exempt":
		return limit.Exempt
	case "high":
		return limit.High
	}
	return limit.Ordinary
}

// sync takes over a snapshot.
func (l *lab) sync(s *catalog.Snapshot) {
	l.pool.Sync(s)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.service = s.APIServices()[0]
}

// reply is what the client got; err is set where it was not whole.
type reply struct {
	code   int
	body   string
	header http.Header
	took   time.Duration
	err    error
}

func (l *lab) send(method, id string, body io.Reader) reply {
	l.t.Helper()
	return l.sendWith(nil, method, id, body)
}

func (l *lab) sendWith(header http.Header, method, id string, body io.Reader) reply {
	l.t.Helper()
	return l.sendTo(things, header, method, id, body)
}

func (l *lab) sendTo(path string, header http.Header, method, id string, body io.Reader) reply {
	l.t.Helper()
	r, err := http.NewRequest(method, l.url+path+"?id="+id, body)
	if err != nil {
		l.t.Fatal(err)
	}
	maps.Copy(r.Header, header)
	start := time.Now()
	response, err := l.client.Do(r)
	if err != nil {
		return reply{err: err, took: time.Since(start)}
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	return reply{response.StatusCode, string(data), response.Header, time.Since(start), err}
}

func small() io.Reader { return strings.NewReader(`{"kind":"Thing"}`) }

// until waits for a condition.
func until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	ctx := time.After(soon)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-ctx:
			t.Fatalf("waited in vain until %s", what)
		}
	}
}
