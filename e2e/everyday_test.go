package e2e

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	aggregatorclient "k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset"

	"github.com/annex-api/annex/internal/testcerts"
)

const (
	everydayGroup = "everyday.example.com"
	everydayPath  = "/apis/" + everydayGroup + "/v1/namespaces/default/things"
)

// errorLine is a line of the log that an operator has to act on.
var errorLine = regexp.MustCompile(`(?m)^[EF][0-9]{4} .*$`)

// everydayServer is an extension server whose things can be listed slowly, watched,
// and talked to. Begun counts the requests that wait for their client's end.
type everydayServer struct {
	discovery http.Handler
	begun     atomic.Int32
}

func (s *everydayServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case !strings.HasPrefix(r.URL.Path, everydayPath):
		s.discovery.ServeHTTP(w, r)
	case r.Header.Get("Upgrade") != "":
		s.talk(w)
	case r.URL.Query().Get("slow") != "":
		s.begun.Add(1)
		<-r.Context().Done()
	case strings.HasSuffix(r.URL.Path, "/log"):
		fmt.Fprintln(w, "a line")
		_ = http.NewResponseController(w).Flush() // the client may have gone
		s.begun.Add(1)
		<-r.Context().Done()
	case r.URL.Query().Get("watch") != "":
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintln(w, `{"type":"ADDED","object":{"kind":"Thing","apiVersion":"`+everydayGroup+`/v1","metadata":{"name":"one"}}}`)
		_ = http.NewResponseController(w).Flush() // the client may have gone
		s.begun.Add(1)
		seconds, err := strconv.Atoi(r.URL.Query().Get("timeoutSeconds"))
		if err != nil {
			seconds = 3600
		}
		select {
		case <-r.Context().Done():
		case <-time.After(time.Duration(seconds) * time.Second):
		}
	default:
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"kind":"Thing","apiVersion":"%s/v1","metadata":{"name":"one"},"read":%d}`, everydayGroup, len(body))
	}
}

// talk answers an upgrade and says back what it hears until the other end goes.
func (s *everydayServer) talk(w http.ResponseWriter) {
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer conn.Close()
	fmt.Fprint(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n")
	if rw.Flush() != nil {
		return
	}
	s.begun.Add(1)
	_, _ = io.Copy(conn, rw)
}

// roll runs one more server of a Deployment, with the certificate that all of it
// share, and returns its port.
func (s *everydayServer) roll(t *testing.T, ca *testcerts.Authority, host string) (server *httptest.Server, port int) {
	t.Helper()
	server = httptest.NewUnstartedServer(s)
	pair := ca.Issue(testcerts.Subject{Name: "server", Hosts: []string{host}})
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair.TLS()}}
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	at, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	if port, err = strconv.Atoi(at.Port()); err != nil {
		t.Fatal(err)
	}
	return server, port
}

// leave begins requests of many clients, which go once the server serves them.
func (s *everydayServer) leave(t *testing.T, config *rest.Config, clients int, path string) {
	t.Helper()
	before := s.begun.Load()
	ctx, goAway := context.WithCancel(t.Context())
	defer goAway()
	ended := make(chan struct{})
	for range clients {
		go func() {
			_, _ = do(ctx, config, http.MethodGet, path, "") // it does not wait for the end
			ended <- struct{}{}
		}()
	}
	eventually(t, "clients that are served", func(context.Context) error {
		if n := s.begun.Load() - before; int(n) < clients {
			return fmt.Errorf("%d of %d", n, clients)
		}
		return nil
	})
	goAway()
	for range clients {
		<-ended
	}
}

// session begins one, says something, hears it, and goes.
func (s *everydayServer) session(t *testing.T, config *rest.Config) {
	t.Helper()
	settings, err := rest.TLSConfigFor(config)
	if err != nil {
		t.Fatal(err)
	}
	settings.NextProtos = []string{"http/1.1"}
	conn, err := tls.Dial("tcp", strings.TrimPrefix(config.Host, "https://"), settings)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "GET %s/one/talk HTTP/1.1\r\nHost: server\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n", everydayPath)
	answers := bufio.NewReader(conn)
	answer, err := http.ReadResponse(answers, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	heard := make([]byte, 5)
	if _, err := io.WriteString(conn, "hello"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(answers, heard); err != nil || answer.StatusCode != http.StatusSwitchingProtocols || string(heard) != "hello" {
		t.Errorf("a session: %s, then %q, %v", answer.Status, heard, err)
	}
}

// TestEverydayWritesNoErrors does what happens in a cluster all day: watches end,
// clients leave, sessions end, extension servers are rolled out, APIServices come
// and go. None of it is anything that an operator has to act on.
func TestEverydayWritesNoErrors(t *testing.T) {
	t.Parallel()
	c := startUp(t, shortTemp(t))
	start := c.stderr.String() // kube-apiserver's own errors of a first start are not every day's
	s := &everydayServer{discovery: discoveryHandler(everydayGroup, "v1", "get", "list", "watch")}
	ca := testcerts.New(everydayGroup)
	r := registration{namespace: "default", service: "everyday", group: everydayGroup, version: "v1", ca: ca.PEM}
	server, at := s.roll(t, ca, r.host())
	r.port = at
	if err := c.register(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	client, err := aggregatorclient.NewForConfig(c.admin)
	if err != nil {
		t.Fatal(err)
	}

	// Watches that their clients leave, of extension and of built-in resources.
	s.leave(t, c.admin, 20, everydayPath+"?watch=true")
	for range 5 {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		_, _ = do(ctx, c.admin, http.MethodGet, "/api/v1/configmaps?watch=true", "") // its client leaves
		cancel()
	}
	// Watches that end in their time.
	if a := get(t, c.admin, everydayPath+"?watch=true&timeoutSeconds=1"); a.code != http.StatusOK {
		t.Errorf("a watch of a second: %d %s", a.code, a.body)
	}
	if a := get(t, c.admin, "/api/v1/configmaps?watch=true&timeoutSeconds=1"); a.code != http.StatusOK {
		t.Errorf("a watch of a second: %d %s", a.code, a.body)
	}
	// Clients that do not wait for an answer, and those that run out of time.
	s.leave(t, c.admin, 20, everydayPath+"?slow=true")
	if a := get(t, c.admin, everydayPath+"?slow=true&timeout=300ms"); a.code != http.StatusGatewayTimeout {
		t.Errorf("a request of 300 ms: %d %s", a.code, a.body)
	}
	// Sessions.
	for range 5 {
		s.session(t, c.admin)
	}
	// A roll-out: the new server comes, the old one ends with what it still serves.
	long := []string{"?watch=true", "/one/log?follow=true"}
	ended := make(chan error, len(long))
	before := s.begun.Load()
	for _, path := range long {
		go func() {
			_, err := do(t.Context(), c.admin, http.MethodGet, everydayPath+path, "")
			ended <- err
		}()
	}
	eventually(t, "a watch and a log", func(context.Context) error {
		if n := int(s.begun.Load() - before); n < len(long) {
			return fmt.Errorf("%d are open", n)
		}
		return nil
	})
	_, next := s.roll(t, ca, r.host())
	patch := fmt.Sprintf(`{"spec":{"service":{"port":%d}}}`, next)
	if _, err := client.ApiregistrationV1().APIServices().Patch(t.Context(), r.name(), types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	server.CloseClientConnections()
	server.Close()
	for range long {
		select {
		case <-ended: // with an error or without, as its server ended
		case <-time.After(patience):
			t.Error("a watch or a log outlives its server")
		}
	}
	eventually(t, "an answer of the new server", func(ctx context.Context) error {
		a, err := do(ctx, c.admin, http.MethodGet, everydayPath+"/one", "")
		if err == nil && a.code != http.StatusOK {
			err = fmt.Errorf("%d %s", a.code, a.body)
		}
		return err
	})
	// It goes for good, as its users are used to.
	if err := client.ApiregistrationV1().APIServices().Delete(t.Context(), r.name(), metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the end of the API", func(ctx context.Context) error {
		a, err := do(ctx, c.admin, http.MethodGet, everydayPath+"/one", "")
		if err == nil && a.code != http.StatusNotFound {
			err = fmt.Errorf("%d %s", a.code, a.body)
		}
		return err
	})

	log, isWhole := strings.CutPrefix(c.stderr.String(), start)
	if !isWhole {
		t.Fatal("the log is longer than what is kept of it")
	}
	if lines := errorLine.FindAllString(log, -1); len(lines) > 0 {
		t.Errorf("%d lines at error level, the first ones:\n%s", len(lines), strings.Join(lines[:min(len(lines), 10)], "\n"))
	}
	// Errors would be found: this is what they look like.
	if !errorLine.MatchString("I1128 00:00:00.000000       1 a.go:1] fine\nE1128 00:00:00.000000       1 a.go:1] bad\n") {
		t.Error("a line at error level is not found")
	}
}
