package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/websocket"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"

	"github.com/annex-api/annex/aggregator/internal/backend"
	"github.com/annex-api/annex/aggregator/internal/backend/limit"
	"github.com/annex-api/annex/aggregator/internal/backendtest"
	"github.com/annex-api/annex/aggregator/internal/catalog"
	"github.com/annex-api/annex/internal/testcerts"
)

func (f *front) tls() *tls.Config {
	return f.client.Transport.(*http.Transport).TLSClientConfig.Clone()
}

// dial opens a raw connection to the front that speaks HTTP/1.1.
func (f *front) dial(t *testing.T) *tls.Conn {
	t.Helper()
	config := f.tls()
	config.NextProtos = []string{"http/1.1"}
	conn, err := tls.Dial("tcp", f.Listener.Addr().String(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// upgrade opens a connection that has switched to another protocol.
func (f *front) upgrade(t *testing.T, protocol string) (*tls.Conn, *bufio.Reader) {
	t.Helper()
	conn := f.dial(t)
	_, _ = io.WriteString(conn, upgradeRequest(protocol))
	reader := bufio.NewReader(conn)
	if response, err := http.ReadResponse(reader, nil); err != nil || response.StatusCode != 101 {
		t.Fatalf("%v, %v", response, err)
	}
	return conn, reader
}

func upgradeRequest(protocol string, extra ...string) string {
	return fmt.Sprintf("GET %s/things/x/exec?tty=1 HTTP/1.1\r\nHost: front\r\nConnection: Upgrade\r\nUpgrade: %s\r\n%s\r\n",
		base, protocol, strings.Join(extra, ""))
}

// switching is a backend that answers 101 and hands the connection to serve.
func switching(t *testing.T, protocol string, serve func(conn io.ReadWriteCloser, buffered *bufio.Reader)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Errorf("hijacking: %v (over %s)", err, r.Proto)
			return
		}
		defer conn.Close()
		_, _ = fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\nAccess-Control-Allow-Origin: *\r\nSet-Cookie: a=b\r\nX-Kept: 1\r\n\r\n", protocol)
		serve(conn, buffered.Reader)
	})
}

func TestWebSocketEcho(t *testing.T) {
	s := backendtest.Start(t, "api", websocket.Server{
		Handshake: func(c *websocket.Config, _ *http.Request) error {
			c.Protocol = c.Protocol[:min(1, len(c.Protocol))]
			return nil
		},
		Handler: func(conn *websocket.Conn) {
			for message := ""; websocket.Message.Receive(conn, &message) == nil; {
				_ = websocket.Message.Send(conn, message)
			}
		},
	})
	f := startFront(t, s.Claim(name))
	config, err := websocket.NewConfig("wss"+strings.TrimPrefix(f.URL, "https")+base+"/things/x/exec", f.URL)
	if err != nil {
		t.Fatal(err)
	}
	config.TlsConfig = f.tls()
	config.Protocol = []string{"base64url.bearer.authorization.k8s.io.c2VjcmV0", "v4.channel.k8s.io"}
	config.Header = http.Header{"Authorization": {"Bearer secret"}, "X-Remote-User": {"root"}}
	conn, err := websocket.DialConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, message := range []string{"hello", strings.Repeat("x", 100_000)} {
		if err := websocket.Message.Send(conn, message); err != nil {
			t.Fatal(err)
		}
		var got string
		if err := websocket.Message.Receive(conn, &got); err != nil || got != message {
			t.Errorf("%d bytes came back, %v", len(got), err)
		}
	}
	r := s.Requests()[0]
	if got := r.Header.Get("Sec-Websocket-Protocol"); got != "v4.channel.k8s.io" {
		t.Errorf("Sec-WebSocket-Protocol: %s", got)
	}
	for key, want := range map[string]string{
		"Authorization": "", "X-Remote-User": "alice", "X-Forwarded-For": "127.0.0.1",
		"X-Forwarded-Host": "", "X-Forwarded-Proto": "", "X-Forwarded-Uri": "", "Audit-Id": "audit-1",
	} {
		if got := r.Header.Get(key); got != want {
			t.Errorf("%s: %q, want %q", key, got, want)
		}
	}
}

func TestSPDYEcho(t *testing.T) {
	s := backendtest.Start(t, "api", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := httpstream.Handshake(r, w, []string{"v4.channel.k8s.io"}); err != nil {
			t.Errorf("handshake: %v", err)
			return
		}
		conn := spdy.NewResponseUpgrader().UpgradeResponse(w, r, func(stream httpstream.Stream, replied <-chan struct{}) error {
			go func() {
				<-replied
				_, _ = io.Copy(stream, stream)
				_ = stream.Close()
			}()
			return nil
		})
		if conn != nil {
			<-conn.CloseChan()
		}
	}))
	f := startFront(t, s.Claim(name))
	transport, err := spdy.NewRoundTripper(f.tls())
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), "POST", f.URL+base+"/things/x/exec", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set(httpstream.HeaderProtocolVersion, "v4.channel.k8s.io")
	response, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := transport.NewConnection(response)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for range 3 {
		stream, err := conn.CreateStream(http.Header{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(stream, "hello"); err != nil {
			t.Fatal(err)
		}
		_ = stream.Close() // half: the other way stays open
		if got, err := io.ReadAll(stream); err != nil || string(got) != "hello" {
			t.Errorf("%q, %v", got, err)
		}
	}
}

// All that the backend said before it closed reaches the client, then the end.
func TestBackendsEndIsTheClientsEnd(t *testing.T) {
	last := strings.Repeat("z", 1<<20)
	s := backendtest.Start(t, "api", switching(t, "SPDY/3.1", func(conn io.ReadWriteCloser, _ *bufio.Reader) { _, _ = io.WriteString(conn, last) }))
	f := startFront(t, s.Claim(name))
	conn := f.dial(t)
	_, _ = io.WriteString(conn, upgradeRequest("SPDY/3.1"))
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, nil)
	if err != nil || response.StatusCode != 101 {
		t.Fatalf("%v, %v", response, err)
	}
	if h := response.Header; h.Get("Access-Control-Allow-Origin") != "" || h.Get("Set-Cookie") != "" || h.Get("X-Kept") != "1" {
		t.Errorf("%v", h)
	}
	got, err := io.ReadAll(reader)
	if err != nil || string(got) != last {
		t.Errorf("%d bytes of %d, %v", len(got), len(last), err)
	}
}

// What a backend said before it closed is not lost when the client still writes.
func TestBackendsLastWordsReachAClientThatWrites(t *testing.T) {
	last := strings.Repeat("z", 48<<10) // what the kernel takes at once
	s := backendtest.Start(t, "api", switching(t, "SPDY/3.1", func(conn io.ReadWriteCloser, _ *bufio.Reader) {
		_, _ = io.WriteString(conn, last) // and leaves unread what the client says
	}))
	f := startFront(t, s.Claim(name))
	for range 50 {
		conn, reader := f.upgrade(t, "SPDY/3.1")
		wrote := make(chan struct{})
		go func() {
			defer close(wrote)
			for line := make([]byte, 1<<10); ; {
				if _, err := conn.Write(line); err != nil {
					return
				}
			}
		}()
		got, err := io.ReadAll(reader)
		if err != nil || string(got) != last {
			t.Errorf("%d bytes of %d, %v", len(got), len(last), err)
		}
		_ = conn.Close()
		<-wrote
	}
}

// A client that has said all still hears the answer.
func TestClientThatHasSaidAllIsAnswered(t *testing.T) {
	s := backendtest.Start(t, "api", switching(t, "websocket", func(conn io.ReadWriteCloser, buffered *bufio.Reader) {
		said, _ := io.ReadAll(buffered)
		_, _ = io.WriteString(conn, "you said "+string(said))
	}))
	f := startFront(t, s.Claim(name))
	conn, reader := f.upgrade(t, "websocket")
	_, _ = io.WriteString(conn, "all")
	_ = conn.CloseWrite()
	if got, err := io.ReadAll(reader); err != nil || string(got) != "you said all" {
		t.Errorf("%q, %v", got, err)
	}
}

// A backend that ignores its client's end does not hold the connection.
func TestBackendThatIgnoresTheEndIsLeft(t *testing.T) {
	ended := make(chan error, 1)
	s := backendtest.Start(t, "api", switching(t, "websocket", func(_ io.ReadWriteCloser, buffered *bufio.Reader) {
		_, _ = io.Copy(io.Discard, buffered)
		time.Sleep(2 * lingerTimeout) // frozen
		ended <- nil
	}))
	f := startFront(t, s.Claim(name))
	conn, reader := f.upgrade(t, "websocket")
	_ = conn.CloseWrite()
	_, _ = io.Copy(io.Discard, reader)
	select {
	case <-ended:
		t.Error("the client's connection was held as long as the backend slept")
	default:
	}
}

func TestClientsEndIsTheBackendsEnd(t *testing.T) {
	ended := make(chan string, 1)
	s := backendtest.Start(t, "api", switching(t, "websocket", func(_ io.ReadWriteCloser, buffered *bufio.Reader) {
		rest, _ := io.ReadAll(buffered)
		ended <- string(rest)
	}))
	f := startFront(t, s.Claim(name))
	conn := f.dial(t)
	// The client does not wait for the answer: its first bytes are not lost.
	_, _ = io.WriteString(conn, upgradeRequest("websocket")+"early ")
	if response, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || response.StatusCode != 101 {
		t.Fatalf("%v, %v", response, err)
	}
	_, _ = io.WriteString(conn, "late")
	_ = conn.CloseWrite()
	select {
	case got := <-ended:
		if got != "early late" {
			t.Errorf("%q arrived", got)
		}
	case <-time.After(patience):
		t.Error("the backend's connection stays open")
	}
}

// An answer other than 101 ends both connections (CVE-2018-1002105): what the
// client sent after its request is nobody's request.
func TestRefusedUpgradeIsEchoedAndBothEnd(t *testing.T) {
	s := backendtest.Start(t, "api", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, "no")
	}))
	f := startFront(t, s.Claim(name))
	conn := f.dial(t)
	_, _ = io.WriteString(conn, upgradeRequest("websocket")+"GET "+base+"/secrets HTTP/1.1\r\nHost: front\r\nX-Remote-User: root\r\n\r\n")
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, nil)
	if err != nil {
		t.Fatal(err)
	}
	if body := read(t, response); response.StatusCode != 400 || body != "no" || !response.Close {
		t.Errorf("%d %q, close %v", response.StatusCode, body, response.Close)
	}
	if rest, _ := io.ReadAll(reader); len(rest) != 0 {
		t.Errorf("more was answered: %q", rest)
	}
	if n := len(s.Requests()); n != 1 {
		t.Errorf("the backend saw %d requests", n)
	}
}

func TestInvalidUpgradeAnswers(t *testing.T) {
	code := 0
	s := backendtest.Start(t, "api", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(code)
	}))
	f := startFront(t, s.Claim(name))
	for _, code = range []int{200, 204, 302, 307} {
		response := f.do(t, "GET", base+"/things/x/exec", nil, http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}})
		want := fmt.Sprintf("invalid upgrade response: status code %d", code)
		if got := status(t, response); !strings.HasPrefix(got.Message, want+" (APIService v1.a.example") || got.Code != 503 {
			t.Errorf("%+v, want %q", got, want)
		}
	}
	if n := len(s.Requests()); n != 4 {
		t.Errorf("%d requests: something was followed", n)
	}
}

func TestSwitchToAnotherProtocolIsRefused(t *testing.T) {
	s := backendtest.Start(t, "api", switching(t, "foo", func(io.ReadWriteCloser, *bufio.Reader) {}))
	f := startFront(t, s.Claim(name))
	response := f.do(t, "GET", base+"/things/x/exec", nil, http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}})
	if got := status(t, response); got.Code != 503 || !strings.Contains(got.Message, `switched to "foo"`) {
		t.Errorf("%+v", got)
	}
}

func TestUpgradeAnswerHeaderIsBounded(t *testing.T) {
	s := backendtest.Start(t, "api", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nX-Endless: ")
		for line := strings.Repeat("x", 64<<10); ; {
			if _, err := io.WriteString(conn, line); err != nil {
				return
			}
		}
	}))
	f := startFront(t, s.Claim(name))
	response := f.do(t, "GET", base+"/things/x/exec", nil, http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}})
	if got := status(t, response); got.Code != 503 {
		t.Errorf("%+v", got)
	}
}

func TestUpgradeToADeadServer(t *testing.T) {
	f := startFront(t, backendtest.Dead(t, "dead").Claim(name))
	response := f.do(t, "GET", base+"/things/x/exec", nil, http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}})
	if got := status(t, response); got.Code != 503 || got.Message != noAnswer {
		t.Errorf("%+v", got)
	}
	if f.probes.Load() != 1 {
		t.Error("a server that cannot be dialled is not probed")
	}
}

// The body of a request for an upgrade is sent, and only then the protocol is another one.
func TestTheBodyOfAnUpgradeArrivesFirst(t *testing.T) {
	for what, framed := range map[string]string{
		"known length": "Content-Length: 10\r\n\r\n0123456789",
		"chunked":      "Transfer-Encoding: chunked\r\n\r\n4\r\n0123\r\n6\r\n456789\r\n0\r\n\r\n",
		"expected":     "Content-Length: 10\r\nExpect: 100-continue\r\n\r\n0123456789",
		"large":        fmt.Sprintf("Content-Length: %d\r\n\r\n%s", 3<<20, strings.Repeat("x", 3<<20)),
		"none":         "Content-Length: 0\r\n\r\n",
	} {
		for _, protocol := range []string{"SPDY/3.1", "websocket"} {
			t.Run(what+" "+protocol, func(t *testing.T) {
				bodies := make(chan string, 1)
				s := backendtest.Start(t, "api", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					body, err := io.ReadAll(r.Body)
					if err != nil {
						t.Errorf("reading the body: %v", err)
					}
					bodies <- string(body)
					switching(t, protocol, func(conn io.ReadWriteCloser, buffered *bufio.Reader) {
						said, _ := buffered.ReadString('\n')
						_, _ = io.WriteString(conn, "you said "+said)
					}).ServeHTTP(w, r)
				}))
				f := startFront(t, s.Claim(name))
				conn := f.dial(t)
				head, _, _ := strings.Cut(upgradeRequest(protocol), "\r\n\r\n")
				_, _ = io.WriteString(conn, strings.Replace(head, "GET", "POST", 1)+"\r\n"+framed+"early ")
				reader := bufio.NewReader(conn)
				response, err := http.ReadResponse(reader, nil)
				for err == nil && response.StatusCode == http.StatusContinue {
					response, err = http.ReadResponse(reader, nil)
				}
				if err != nil || response.StatusCode != http.StatusSwitchingProtocols {
					t.Fatalf("%+v, %v", response, err)
				}
				_, want, _ := strings.Cut(framed, "\r\n\r\n")
				if what == "chunked" {
					want = "0123456789"
				}
				if got := <-bodies; got != want {
					t.Errorf("a body of %d bytes arrived, want %d", len(got), len(want))
				}
				_, _ = io.WriteString(conn, "late\n")
				if got, err := reader.ReadString('\n'); got != "you said early late\n" {
					t.Errorf("%q, %v", got, err)
				}
			})
		}
	}
}

// An extension server may refuse before it has read a body, and a client may break its
// body off: both are told, and nothing is held against anybody.
func TestAnUpgradeWithABodyThatIsNotTaken(t *testing.T) {
	s := backendtest.Start(t, "api", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("tty") == "1" {
			_, _ = io.Copy(io.Discard, r.Body)
		}
		w.WriteHeader(http.StatusForbidden)
	}))
	f := startFront(t, s.Claim(name))
	head, _, _ := strings.Cut(strings.Replace(upgradeRequest("websocket"), "GET", "POST", 1), "\r\n\r\n")
	for what, c := range map[string]struct {
		text  string
		close bool
		code  int
	}{
		"refused":     {strings.Replace(head, "tty=1", "tty=0", 1) + fmt.Sprintf("\r\nContent-Length: %d\r\n\r\n%s", 1<<20, strings.Repeat("x", 1<<20)), false, 403},
		"broken off":  {head + "\r\nContent-Length: 100\r\n\r\npart", true, 400},
		"a bad chunk": {head + "\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\nZZ\r\n", false, 400},
	} {
		t.Run(what, func(t *testing.T) {
			conn := f.dial(t)
			go func() {
				_, _ = io.WriteString(conn, c.text)
				if c.close {
					_ = conn.CloseWrite()
				}
			}()
			response, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil || response.StatusCode != c.code {
				t.Fatalf("%+v, %v, want %d", response, err, c.code)
			}
		})
	}
	if n := f.probes.Load(); n != 0 {
		t.Errorf("the server was probed %d times", n)
	}
}

// hijackable is an answer that may take over its connection.
type hijackable struct {
	http.ResponseWriter
	conn net.Conn
}

// Hijack implements http.Hijacker.
func (h hijackable) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return h.conn, bufio.NewReadWriter(bufio.NewReader(h.conn), bufio.NewWriter(h.conn)), nil
}

// The answer to an upgrade may take as long as that to any long-running request: as its
// client waits, or as its APIService says.
func TestTheAnswerToAnUpgradeMayTakeItsTime(t *testing.T) {
	certificate := testcerts.New("api").Issue(testcerts.Subject{Hosts: []string{"api"}}).TLS()
	claim := *(&backendtest.Server{Service: "api", Address: "127.0.0.1:1"}).Claim(name)
	claim.InsecureSkipTLSVerify, claim.CABundle, claim.Backend = true, nil, catalog.BackendID{Insecure: true}
	for what, c := range map[string]struct {
		bound time.Duration
		code  int
	}{
		"no bound":   {0, http.StatusSwitchingProtocols},
		"in time":    {time.Hour, http.StatusSwitchingProtocols},
		"after that": {5 * time.Minute, http.StatusServiceUnavailable},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				pool := backend.New(backend.Config{Dial: func(context.Context, string, string) (net.Conn, error) { return near, nil }})
				defer pool.Close()
				served := make(chan struct{})
				go func() {
					defer close(served)
					conn := tls.Server(far, &tls.Config{Certificates: []tls.Certificate{certificate}, SessionTicketsDisabled: true})
					defer far.Close()
					if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
						t.Error(err)
					}
					time.Sleep(10 * time.Minute)
					_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
				}()
				a := claim
				a.Settings.HeaderTimeout = c.bound
				r := httptest.NewRequest(http.MethodGet, base+"/things/x/exec", nil)
				r.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}}
				client, server := net.Pipe()
				w := hijackable{httptest.NewRecorder(), server}
				code := make(chan int, 1)
				go func() {
					defer client.Close()
					if response, err := http.ReadResponse(bufio.NewReader(client), nil); err == nil {
						code <- response.StatusCode
					}
				}()
				New(Config{Backends: pool}).Serve(w, r.WithContext(request.WithUser(r.Context(), alice)), &a, limit.Ordinary)
				_ = server.Close()
				got := w.ResponseWriter.(*httptest.ResponseRecorder).Code
				select {
				case got = <-code:
				default:
				}
				if got != c.code {
					t.Errorf("the client got %d, want %d", got, c.code)
				}
				<-served
			})
		})
	}
}

// Some proxies send Connection: upgrade with every request. Without a protocol it asks
// for none (RFC 9110, section 7.8).
func TestARequestThatNamesNoProtocolIsNoUpgrade(t *testing.T) {
	s := backendtest.Start(t, "api", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }))
	f := startFront(t, s.Claim(name))
	for _, header := range []http.Header{
		{"Connection": {"upgrade"}}, {"Connection": {"keep-alive, Upgrade"}}, {"Connection": {"upgrade"}, "Upgrade": {""}},
	} {
		response := f.do(t, "POST", base+"/things", strings.NewReader("body"), header)
		if got := read(t, response); response.StatusCode != 200 || got != "body" {
			t.Errorf("%v: %d %q", header, response.StatusCode, got)
		}
	}
	for _, r := range s.Requests() {
		if r.Proto != "HTTP/2.0" || r.Header.Get("Connection") != "" || r.Header.Get("Upgrade") != "" {
			t.Errorf("%s, Connection %q, Upgrade %q", r.Proto, r.Header["Connection"], r.Header["Upgrade"])
		}
	}
	if n := len(s.Requests()); n != 3 {
		t.Errorf("%d requests", n)
	}
}
