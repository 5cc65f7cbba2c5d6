package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// waiting is an extension server with a watch that never ends and a GET that waits to be released.
type waiting struct {
	http.Handler
	arrived, release chan struct{}
	once             sync.Once
}

func newWaiting(group string) *waiting {
	s := &waiting{arrived: make(chan struct{}), release: make(chan struct{})}
	mux := http.NewServeMux()
	mux.Handle("/", discoveryHandler(group, "v1", "get", "list", "watch"))
	mux.HandleFunc("/apis/"+group+"/v1/namespaces/default/things", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintln(w, `{"type":"ADDED","object":{"apiVersion":"`+group+`/v1","kind":"Thing","metadata":{"name":"one"}}}`)
		_ = http.NewResponseController(w).Flush() // the watch shows whether it came
		<-r.Context().Done()
	})
	mux.HandleFunc("/apis/"+group+"/v1/namespaces/default/things/slow", func(w http.ResponseWriter, r *http.Request) {
		s.once.Do(func() { close(s.arrived) }) // a plain read may be sent again
		select {
		case <-s.release:
		case <-r.Context().Done():
			return
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"apiVersion":"`+group+`/v1","kind":"Thing","metadata":{"name":"slow"}}`)
	})
	s.Handler = mux
	return s
}

// TestGracefulShutdown ends a server by SIGTERM under open watches and a request in flight.
func TestGracefulShutdown(t *testing.T) {
	t.Parallel()
	const group = "waiting.example.com"
	c := startUp(t, filepath.Join(shortTemp(t), "data"), "--", "--shutdown-delay-duration=10s", "--shutdown-watch-termination-grace-period=10s")
	server := newWaiting(group)
	registerServer(t, c, group, server)

	things := "/apis/" + group + "/v1/namespaces/default/things"
	watches := map[string]chan error{}
	for _, path := range []string{things + "?watch=true", "/api/v1/namespaces?watch=true"} {
		watches[path] = openWatch(t, c.admin, path)
	}
	type result struct {
		answer answer
		err    error
	}
	slow := make(chan result, 1)
	go func() {
		a, err := do(context.Background(), c.admin, http.MethodGet, things+"/slow", "")
		slow <- result{a, err}
	}()
	<-server.arrived

	c.signal(syscall.SIGTERM)
	eventually(t, "/readyz to fail", func(ctx context.Context) error {
		a, err := do(ctx, c.admin, http.MethodGet, "/readyz", "")
		if err == nil && a.code == http.StatusOK {
			err = errors.New("still ready")
		} else if err == nil {
			return nil
		}
		return err
	})
	if _, err := c.kube.CoreV1().Namespaces().Get(t.Context(), "default", metav1.GetOptions{}); err != nil {
		t.Errorf("a request during the delay: %v", err)
	}
	host, err := url.Parse(c.admin.Host)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the end of listening", func(context.Context) error {
		conn, err := net.Dial("tcp", host.Host)
		if err != nil {
			return nil
		}
		conn.Close()
		return errors.New("it still listens")
	})
	close(server.release)
	if r := <-slow; r.err != nil || r.answer.code != http.StatusOK {
		t.Errorf("the request in flight: %d, %v", r.answer.code, r.err)
	}
	for path, ended := range watches {
		if err := <-ended; err != nil {
			t.Errorf("the watch of %s broke off: %v", path, err)
		}
	}
	if code := c.exitCode(t); code != 0 {
		t.Errorf("exit code %d, want 0: %s", code, c.stderr)
	}
}

// TestUpEndsUnderWatches ends as soon as it is asked to, whoever looks on.
func TestUpEndsUnderWatches(t *testing.T) {
	t.Parallel()
	c := startUp(t, filepath.Join(shortTemp(t), "data"))
	const group = "endless.example.com"
	registerServer(t, c, group, newWaiting(group))
	for _, path := range []string{"/apis/" + group + "/v1/namespaces/default/things?watch=true", "/api/v1/configmaps?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"} {
		openWatch(t, c.admin, path)
	}
	begin := time.Now()
	c.signal(syscall.SIGINT)
	if code := c.exitCode(t); code != 0 {
		t.Errorf("exit code %d, want 0: %s", code, c.stderr)
	}
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("it took %v", took)
	}
}

// openWatch waits for the first event; the channel then tells how the watch ended, nil for cleanly.
func openWatch(t *testing.T, config *rest.Config, path string) chan error {
	t.Helper()
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Get(config.Host + path)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(resp.Body)
	first, err := lines.ReadBytes('\n')
	if err != nil || !json.Valid(first) {
		t.Fatalf("the first event of %s: %q, %v", path, first, err)
	}
	ended := make(chan error, 1)
	go func() {
		defer resp.Body.Close()
		_, err := io.Copy(io.Discard, lines)
		ended <- err
	}()
	return ended
}
