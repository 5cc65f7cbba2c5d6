package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// gate is the HTTP CONNECT proxy through which one server reaches extension servers. Shut, it
// refuses, and what went through it breaks.
type gate struct {
	server *httptest.Server

	mu    sync.Mutex
	shut  bool
	conns map[net.Conn]struct{}
	group sync.WaitGroup
}

// startGate listens on a socket in dir.
func startGate(t *testing.T, dir string) *gate {
	t.Helper()
	listener, err := net.Listen("unix", filepath.Join(dir, "egress.sock"))
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{server: httptest.NewUnstartedServer(nil), conns: map[net.Conn]struct{}{}}
	g.server.Listener.Close()
	g.server.Listener, g.server.Config.Handler = listener, g
	g.server.Start()
	t.Cleanup(func() {
		g.close()
		g.server.Close()
		g.group.Wait()
	})
	return g
}

// flag makes a server use the gate for what lies in the cluster.
func (g *gate) flag(t *testing.T, dir string) string {
	t.Helper()
	file := filepath.Join(dir, "egress.yaml")
	text := fmt.Sprintf(`apiVersion: apiserver.k8s.io/v1beta1
kind: EgressSelectorConfiguration
egressSelections:
- name: cluster
  connection: {proxyProtocol: HTTPConnect, transport: {uds: {udsName: %q}}}
`, g.server.Listener.Addr())
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return "--egress-selector-config-file=" + file
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = false
}

func (g *gate) close() {
	g.mu.Lock()
	g.shut = true
	conns := g.conns
	g.conns = map[net.Conn]struct{}{}
	g.mu.Unlock()
	for c := range conns {
		c.Close()
	}
}

// enter notes the two ends of a tunnel, unless the gate is shut.
func (g *gate) enter(ends ...net.Conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut {
		return false
	}
	for _, c := range ends {
		g.conns[c] = struct{}{}
		g.group.Add(1) // for each direction
	}
	return true
}

func (g *gate) leave(ends ...net.Conn) {
	g.mu.Lock()
	for _, c := range ends {
		delete(g.conns, c)
	}
	g.mu.Unlock()
	for _, c := range ends {
		c.Close()
	}
}

// ServeHTTP opens a tunnel; anything but CONNECT is refused.
func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodConnect || !g.enter() {
		http.Error(w, "shut", http.StatusServiceUnavailable)
		return
	}
	far, err := net.DialTimeout("tcp", r.Host, 5*time.Second)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	near, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		far.Close()
		return
	}
	if !g.enter(near, far) {
		near.Close()
		far.Close()
		return
	}
	_, _ = io.WriteString(near, "HTTP/1.1 200 Connection established\r\n\r\n") // if it broke, so do the copies
	carry := func(to, from net.Conn) {
		defer g.group.Done()
		defer g.leave(near, far)
		_, _ = io.Copy(to, from) // either end may break
	}
	go carry(far, near)
	carry(near, far)
}
