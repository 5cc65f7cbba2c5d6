package kubeapiserver_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	test "github.com/annex-api/annex/kubeapiserver/kubeapiservertest"
)

// What the extension server learns besides the identity.
func TestHeadersAtTheExtensionServer(t *testing.T) {
	v1 := gv("headers.test", "v1")
	e := server.Register(t, "headers", v1)
	for way, header := range ways {
		t.Run(way, func(t *testing.T) {
			path := "/apis/" + v1.String() + "/" + way
			c := server.Dial(t, "http/1.1")
			c.Send(t, "GET "+path+"?limit=5 HTTP/1.1", append(slices.Clone(header),
				"Authorization: Bearer "+test.Admin, "X-Forwarded-For: 198.51.100.7", "X-Forwarded-Host: spoofed", "X-Forwarded-Uri: /spoofed",
				"X-Forwarded-Proto: http", "Audit-ID: 5f0cbc5c-2a3c-4b6e-9d0a-000000000000", "X-Custom: kept", "Accept: application/json")...)
			a := c.Receive(t)
			r := one(t, e, path)
			want := http.Header{
				"X-Forwarded-For":   {"198.51.100.7, 127.0.0.1"},
				"X-Forwarded-Host":  {fmt.Sprintf("localhost:%d", e.Port)},
				"X-Forwarded-Proto": {"https"},
				"X-Forwarded-Uri":   {path},
				"X-Custom":          {"kept"},
				"Accept":            {"application/json"},
				"Audit-Id":          {"5f0cbc5c-2a3c-4b6e-9d0a-000000000000"},
			}
			if way != "plain" {
				want["X-Forwarded-Host"], want["X-Forwarded-Proto"], want["X-Forwarded-Uri"] = nil, nil, nil
			}
			for name, values := range want {
				if !slices.Equal(r.Header[name], values) {
					t.Errorf("the backend got %s: %q, want %q", name, r.Header[name], values)
				}
			}
			if got := a.Header["Audit-Id"]; !slices.Equal(got, want["Audit-Id"]) {
				t.Errorf("the client got the audit ID %q", got)
			}
			if r.URI != path+"?limit=5" || r.Host != fmt.Sprintf("localhost:%d", e.Port) {
				t.Errorf("the backend got %s at %s", r.URI, r.Host)
			}
			if wantProto := map[bool]string{true: "HTTP/2.0", false: "HTTP/1.1"}[way == "plain"]; r.Proto != wantProto {
				t.Errorf("the backend was asked by %s, want %s", r.Proto, wantProto)
			}
		})
	}
}

// An extension server may not open this server's origin to other sites.
func TestHeadersThatExtensionServersMayNotSet(t *testing.T) {
	v1 := gv("cors.test", "v1")
	e := server.Register(t, "cors", v1)
	cors := []string{"Access-Control-Allow-Credentials", "Access-Control-Allow-Headers", "Access-Control-Allow-Methods", "Access-Control-Allow-Origin"}
	e.Handle("*", func(w http.ResponseWriter, r *http.Request) {
		for _, name := range cors {
			w.Header().Set(name, "*")
		}
		w.Header().Set("X-Kept", "yes")
		if r.Header.Get("Upgrade") != "" {
			conn, err := test.Hijack(w, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+r.Header.Get("Upgrade")+
				"\r\nX-Kept: yes\r\n"+strings.Join(cors, ": *\r\n")+": *\r\n\r\n")
			if err == nil {
				conn.Close()
			}
		}
	})
	for way, header := range ways {
		t.Run(way, func(t *testing.T) {
			c := server.Dial(t, "http/1.1")
			c.Send(t, "GET /apis/"+v1.String()+"/things HTTP/1.1", append(slices.Clone(header), "Authorization: Bearer "+test.Admin, "Origin: https://evil.test")...)
			a := c.Receive(t)
			for _, name := range cors {
				if got := a.Header.Values(name); len(got) > 0 {
					t.Errorf("the client got %s: %q", name, got)
				}
			}
			if a.Header.Get("X-Kept") != "yes" {
				t.Errorf("another header is gone: %v", a.Header)
			}
		})
	}
}

// Discovery requests have five seconds; others have theirs.
func TestDiscoveryRequestsHaveFiveSeconds(t *testing.T) {
	t.Parallel()
	v1 := gv("bound.test", "v1")
	e := server.Register(t, "bound", v1)
	ended := make(chan time.Duration, 1)
	e.Handle("/apis/"+v1.String(), func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Remote-User") != "admin" {
			return // the probe passes
		}
		start := time.Now()
		select {
		case <-r.Context().Done():
		case <-time.After(test.Deadline):
		}
		ended <- time.Since(start)
	})
	held, release := make(chan struct{}), make(chan struct{})
	e.Handle("/apis/"+v1.String()+"/things", func(w http.ResponseWriter, r *http.Request) {
		close(held)
		select {
		case <-r.Context().Done():
		case <-release:
		}
	})
	resource := make(chan error, 1)
	go func() {
		a, err := server.TryGet(t.Context(), test.Admin, "/apis/"+v1.String()+"/things")
		if err == nil && a.Code != http.StatusOK {
			err = fmt.Errorf("got %d %s", a.Code, a.Body)
		}
		resource <- err
	}()
	<-held
	start := time.Now()
	a := server.Get(t, test.Admin, "/apis/"+v1.String())
	took := time.Since(start)
	if a.Code != http.StatusServiceUnavailable || !strings.Contains(a.Body, "error trying to reach service") {
		t.Errorf("the client got %d %s, want 503", a.Code, a.Body)
	}
	// The handler saw it some time after the client sent it. Other requests have a
	// minute.
	if got := <-ended; took < 5*time.Second || got > 20*time.Second {
		t.Errorf("the discovery request ended after %v, at the client after %v; want 5 s", got, took)
	}
	close(release)
	if err := <-resource; err != nil {
		t.Errorf("a request for resources of the same server: %v", err)
	}
}

// An extension server that freezes, with its connections open, disturbs nothing
// but itself; differs from the reference.
func TestFrozenExtensionServersDisturbNothingElse(t *testing.T) {
	t.Parallel()
	good := gv("awake.test", "v1")
	server.Register(t, "awake", good)
	// One accepts connections and never says a word, one never answers a
	// request, one does so after it was available.
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mute.Close() })
	muteV1, hangV1, frozenV1 := gv("mute.frozen.test", "v1"), gv("hang.frozen.test", "v1"), gv("late.frozen.test", "v1")
	silent := test.NewExtension(t, "mute", muteV1)
	silent.Port = int32(mute.Addr().(*net.TCPAddr).Port)
	thaw := make(chan struct{})
	freeze := func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-thaw:
		case <-r.Context().Done():
		}
	}
	frozenAll := func(e *test.Extension, v string) {
		for _, path := range []string{"/apis", "/apis/" + v, "/openapi/v2", "/openapi/v3", "*"} {
			e.Handle(path, freeze)
		}
	}
	late := server.Register(t, "late", frozenV1)
	hang := test.NewExtension(t, "hang", hangV1)
	t.Cleanup(func() { close(thaw) })
	frozenAll(hang, hangV1.String())
	for _, e := range []*test.Extension{silent, hang} {
		server.Expose(t, e.Name, "localhost")
	}
	server.CreateRegistration(t, test.Registration(muteV1, silent))
	server.CreateRegistration(t, test.Registration(hangV1, hang))
	frozenAll(late, frozenV1.String())
	for _, v := range []string{muteV1.String(), hangV1.String(), frozenV1.String()} {
		for range 3 {
			go func() { _, _ = server.TryGet(t.Context(), test.Admin, "/apis/"+v+"/things") }()
		}
	}
	test.Eventually(t, func() string {
		if len(late.Requests("/")) < 3 {
			return "the frozen server was not asked yet"
		}
		return ""
	})
	// Below the shortest wait for a frozen server, 5 s. An answer that waits for one
	// takes as long each time, one that a busy machine delays does not.
	const bound, tries = 4 * time.Second, 3
	quick := func(path, accept string) {
		t.Helper()
		best := time.Hour
		for range tries {
			start := time.Now()
			a := server.Get(t, test.Admin, path, "Accept", accept)
			if best = min(best, time.Since(start)); a.Code != http.StatusOK {
				t.Errorf("%s: %d %s", path, a.Code, a.Body)
				return
			}
			if best <= bound {
				return
			}
		}
		t.Errorf("%s as %s: %v at best", path, accept, best)
	}
	for _, path := range []string{
		"/readyz", "/livez", "/apis", "/openapi/v2", "/openapi/v3", "/apis/" + good.String() + "/things", "/apis/" + good.String(), "/apis/late.frozen.test",
		"/api/v1/namespaces/default", "/apis/apps/v1",
	} {
		quick(path, "application/json")
	}
	quick("/apis", test.DiscoveryV2)
	// A server that starts now is ready as soon as without them, if need be the
	// third that is started.
	var other *test.Server
	for try := 1; ; try++ {
		start := time.Now()
		if other, err = server.Beside(); err != nil {
			t.Fatal(err)
		}
		took := time.Since(start)
		if took <= 15*time.Second {
			break
		}
		if try == tries {
			t.Errorf("a server beside frozen extension servers took %v to be ready", took)
			break
		}
		if err := other.Stop(); err != nil {
			t.Errorf("stopping a server that was late: %v", err)
		}
	}
	if a, err := other.TryGet(t.Context(), test.Admin, "/apis/"+good.String()+"/things"); err != nil || a.Code != http.StatusOK {
		t.Errorf("the other server: %d %s %v", a.Code, a.Body, err)
	}
	if err := other.Stop(); err != nil {
		t.Errorf("stopping the other server: %v", err)
	}
}

// A watch passes event by event, and ends with the client.
func TestWatchPassesEventByEvent(t *testing.T) {
	v1 := gv("watch.test", "v1")
	e := server.Register(t, "watch", v1)
	next, gone := make(chan string), make(chan struct{})
	e.Handle("/apis/"+v1.String()+"/things", func(w http.ResponseWriter, r *http.Request) {
		defer close(gone)
		w.Header().Set("Content-Type", "application/json;stream=watch")
		controller := http.NewResponseController(w)
		for {
			if controller.Flush() != nil {
				return
			}
			select {
			case line := <-next:
				_, _ = io.WriteString(w, line)
			case <-r.Context().Done():
				return
			}
		}
	})
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/apis/"+v1.String()+"/things?watch=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := server.Client(test.Admin).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		line := fmt.Sprintf(`{"type":"ADDED","object":{"n":%d}}`+"\n", i)
		next <- line
		got := make([]byte, len(line))
		if _, err := io.ReadFull(response.Body, got); err != nil || string(got) != line {
			t.Fatalf("event %d: %q, %v", i, got, err)
		}
	}
	response.Body.Close()
	select {
	case <-gone:
	case <-time.After(test.Deadline):
		t.Error("the backend was not told that the client has left")
	}
}
