package e2e

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/proxy"
	apiserverproxy "k8s.io/apiserver/pkg/util/proxy"
	"k8s.io/client-go/util/exec"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	aggregatorclient "k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset"
	"k8s.io/streaming/pkg/httpstream/wsstream"

	"github.com/annex-api/annex/internal/testcerts"
)

const (
	streamGroup = "stream.example.com"
	streamIdle  = time.Minute
)

// streamServer is an extension server whose things can be executed in, attached to and forwarded
// from, by the code that a kubelet and kube-apiserver run.
type streamServer struct {
	mu      sync.Mutex
	last    http.Header // of the last upgrade
	kubelet *url.URL    // the same streams over SPDY only
}

// startStreamServer starts one and registers it.
func startStreamServer(t *testing.T, e *environment) *streamServer {
	t.Helper()
	s := &streamServer{}
	kubelet := httptest.NewServer(http.HandlerFunc(s.stream))
	t.Cleanup(kubelet.Close)
	var err error
	if s.kubelet, err = url.Parse(kubelet.URL); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/", discoveryHandler(streamGroup, "v1", "get", "list", "watch"))
	mux.HandleFunc("/apis/stream.example.com/v1/namespaces/{namespace}/things/{name}/{verb}", s.translate)
	registerServer(t, e.cluster, streamGroup, mux)
	return s
}

// registerServer runs an extension server in this process and registers it.
func registerServer(t *testing.T, c *cluster, group string, handler http.Handler) {
	t.Helper()
	ca := testcerts.New(group)
	server := httptest.NewUnstartedServer(handler)
	r := registration{
		namespace: "default", service: strings.ReplaceAll(group, ".", "-"), group: group, version: "v1", ca: ca.PEM,
	}
	pair := ca.Issue(testcerts.Subject{Name: "server", Hosts: []string{r.host()}})
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
	if r.port, err = strconv.Atoi(at.Port()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		client, err := aggregatorclient.NewForConfig(c.admin)
		if err != nil {
			t.Error(err)
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		// A server that has ended by now takes its registration with it.
		_ = client.ApiregistrationV1().APIServices().Delete(ctx, r.name(), metav1.DeleteOptions{})
	})
	if err := c.register(t.Context(), r); err != nil {
		t.Fatal(err)
	}
}

func (s *streamServer) lastHeader() http.Header {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// translate serves the newest WebSocket protocols as kube-apiserver does, by speaking SPDY to
// another server, and all others itself.
func (s *streamServer) translate(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.last = r.Header.Clone()
	s.mu.Unlock()
	target := *s.kubelet
	target.Path, target.RawQuery = r.URL.Path, r.URL.RawQuery
	o := options(r)
	switch {
	case wsstream.IsWebSocketRequestWithStreamCloseProtocol(r):
		apiserverproxy.NewStreamTranslatorHandler(&target, http.DefaultTransport, 0, apiserverproxy.Options{Stdin: o.Stdin, Stdout: o.Stdout, Stderr: o.Stderr, Tty: o.TTY}).ServeHTTP(w, r)
	case wsstream.IsWebSocketRequestWithTunnelingProtocol(r):
		apiserverproxy.NewTunnelingHandler(proxy.NewUpgradeAwareHandler(&target, http.DefaultTransport, false, true, s)).ServeHTTP(w, r)
	default:
		s.stream(w, r)
	}
}

// Error implements proxy.ErrorResponder.
func (s *streamServer) Error(w http.ResponseWriter, _ *http.Request, err error) {
	http.Error(w, err.Error(), http.StatusBadGateway)
}

func options(r *http.Request) *remotecommand.Options {
	q := r.URL.Query()
	return &remotecommand.Options{Stdin: q.Has("stdin"), Stdout: q.Has("stdout"), Stderr: q.Has("stderr"), TTY: q.Has("tty")}
}

func (s *streamServer) stream(w http.ResponseWriter, r *http.Request) {
	verb := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
	switch verb {
	case "exec":
		remotecommand.ServeExec(w, r, s, "thing", "", "", r.URL.Query()["command"], options(r), streamIdle, streamIdle, remotecommand.SupportedStreamingProtocols)
	case "attach":
		remotecommand.ServeAttach(w, r, s, "thing", "", "", options(r), streamIdle, streamIdle, remotecommand.SupportedStreamingProtocols)
	case "portforward":
		o, err := portforward.NewV4Options(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		portforward.ServePortForward(w, r, s, "thing", "", o, streamIdle, streamIdle, portforward.SupportedProtocols)
	default:
		http.NotFound(w, r)
	}
}

// ExecInContainer implements remotecommand.Executor. The commands are
//
//	echo <bytes> <code>   copies that many bytes of stdin to stdout, writes "end" to stderr, exits
//	cat                   copies stdin to stdout until its end
//	size                  prints the first two terminal sizes
func (s *streamServer) ExecInContainer(ctx context.Context, _, _, _ string, cmd []string, in io.Reader, out, errOut io.WriteCloser, _ bool, resize <-chan remotecommand.TerminalSize, _ time.Duration) error {
	switch cmd[0] {
	case "echo":
		n, err := strconv.ParseInt(cmd[1], 10, 64)
		if err != nil {
			return err
		}
		if _, err := io.CopyN(out, in, n); err != nil {
			return err
		}
		if _, err := io.WriteString(errOut, "end"); err != nil {
			return err
		}
		code, err := strconv.Atoi(cmd[2])
		if err != nil || code == 0 {
			return err
		}
		return exec.CodeExitError{Err: fmt.Errorf("exit %d", code), Code: code}
	case "cat":
		_, err := io.Copy(out, in)
		return err
	case "size":
		for range 2 {
			select {
			case size := <-resize:
				if _, err := fmt.Fprintf(out, "%dx%d\n", size.Width, size.Height); err != nil {
					return err
				}
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	}
	return exec.CodeExitError{Err: fmt.Errorf("%s: not found", cmd[0]), Code: 127}
}

// AttachContainer implements remotecommand.Attacher.
func (s *streamServer) AttachContainer(_ context.Context, _, _, _ string, in io.Reader, out, _ io.WriteCloser, _ bool, _ <-chan remotecommand.TerminalSize) error {
	_, err := io.CopyN(out, in, 5)
	return err
}

// PortForward implements portforward.PortForwarder: every port echoes.
func (s *streamServer) PortForward(_ context.Context, _, _ string, _ int32, stream io.ReadWriteCloser) error {
	_, err := io.Copy(stream, stream)
	return err
}
