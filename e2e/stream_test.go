package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/gorilla/websocket"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/client-go/util/exec"
	"k8s.io/streaming/pkg/httpstream"
)

// streamURL is the URL of a subresource that streams.
func streamURL(config *rest.Config, verb string, query url.Values) *url.URL {
	u, err := url.Parse(config.Host)
	if err != nil {
		panic(err) // a kubeconfig's own
	}
	u.Path, u.RawQuery = "/apis/stream.example.com/v1/namespaces/default/things/one/"+verb, query.Encode()
	return u
}

// sizes is a terminal that changes its size once.
type sizes struct {
	next chan remotecommand.TerminalSize
}

func (s sizes) Next() *remotecommand.TerminalSize {
	size, ok := <-s.next
	if !ok {
		return nil
	}
	return &size
}

func TestStreams(t *testing.T) {
	t.Parallel()
	e := shared(t)
	server := startStreamServer(t, e)
	big := make([]byte, 10<<20)
	if _, err := rand.Read(big); err != nil {
		t.Fatal(err)
	}

	executors := map[string]func(u *url.URL) (remotecommand.Executor, error){
		"SPDY": func(u *url.URL) (remotecommand.Executor, error) {
			return remotecommand.NewSPDYExecutor(e.admin, http.MethodPost, u)
		},
		"WebSocket v5": func(u *url.URL) (remotecommand.Executor, error) {
			return remotecommand.NewWebSocketExecutor(e.admin, http.MethodGet, u.String())
		},
		"WebSocket v4": func(u *url.URL) (remotecommand.Executor, error) {
			return remotecommand.NewWebSocketExecutorForProtocols(e.admin, http.MethodGet, u.String(), "v4.channel.k8s.io")
		},
	}
	for name, executor := range executors {
		stream := func(t *testing.T, verb string, query url.Values, o remotecommand.StreamOptions) error {
			t.Helper()
			x, err := executor(streamURL(e.admin, verb, query))
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			return x.StreamWithContext(ctx, o)
		}
		t.Run("exec over "+name, func(t *testing.T) {
			var out, errOut bytes.Buffer
			err := stream(t, "exec", url.Values{"command": {"echo", "5", "7"}, "stdin": {""}, "stdout": {""}, "stderr": {""}},
				remotecommand.StreamOptions{Stdin: strings.NewReader("hello"), Stdout: &out, Stderr: &errOut})
			var exit exec.CodeExitError
			if !errors.As(err, &exit) || exit.Code != 7 {
				t.Errorf("it ended with %v, want exit code 7", err)
			}
			if out.String() != "hello" || errOut.String() != "end" {
				t.Errorf("stdout %q, stderr %q; want hello and end", &out, &errOut)
			}
		})
		t.Run("10 MiB both ways over "+name, func(t *testing.T) {
			var out, errOut bytes.Buffer
			err := stream(t, "exec", url.Values{"command": {"echo", strconv.Itoa(len(big)), "0"}, "stdin": {""}, "stdout": {""}, "stderr": {""}},
				remotecommand.StreamOptions{Stdin: bytes.NewReader(big), Stdout: &out, Stderr: &errOut})
			if err != nil {
				t.Error(err)
			}
			if !bytes.Equal(out.Bytes(), big) {
				t.Errorf("%d bytes came back of %d, or others", out.Len(), len(big))
			}
		})
		if name != "WebSocket v4" { // which cannot tell the end of stdin
			t.Run("the end of stdin over "+name, func(t *testing.T) {
				var out bytes.Buffer
				if err := stream(t, "exec", url.Values{"command": {"cat"}, "stdin": {""}, "stdout": {""}},
					remotecommand.StreamOptions{Stdin: strings.NewReader("to the end"), Stdout: &out}); err != nil || out.String() != "to the end" {
					t.Errorf("stdout %q, %v", &out, err)
				}
			})
		}
		t.Run("resize over "+name, func(t *testing.T) {
			terminal := sizes{make(chan remotecommand.TerminalSize, 2)}
			terminal.next <- remotecommand.TerminalSize{Width: 80, Height: 24}
			terminal.next <- remotecommand.TerminalSize{Width: 132, Height: 43}
			defer close(terminal.next)
			var out bytes.Buffer
			if err := stream(t, "exec", url.Values{"command": {"size"}, "stdin": {""}, "stdout": {""}, "tty": {""}},
				remotecommand.StreamOptions{Stdin: strings.NewReader(""), Stdout: &out, Tty: true, TerminalSizeQueue: terminal}); err != nil || out.String() != "80x24\n132x43\n" {
				t.Errorf("stdout %q, %v; want both sizes", &out, err)
			}
		})
		t.Run("attach over "+name, func(t *testing.T) {
			var out bytes.Buffer
			if err := stream(t, "attach", url.Values{"stdin": {""}, "stdout": {""}}, remotecommand.StreamOptions{Stdin: strings.NewReader("again"), Stdout: &out}); err != nil || out.String() != "again" {
				t.Errorf("stdout %q, %v", &out, err)
			}
		})
		t.Run("an unknown command over "+name, func(t *testing.T) {
			err := stream(t, "exec", url.Values{"command": {"nope"}, "stdout": {""}}, remotecommand.StreamOptions{Stdout: io.Discard})
			var exit exec.CodeExitError
			if !errors.As(err, &exit) || exit.Code != 127 {
				t.Errorf("it ended with %v, want exit code 127", err)
			}
		})
	}

	forward := streamURL(e.admin, "portforward", nil)
	t.Run("port-forward over SPDY", func(t *testing.T) {
		transport, upgrader, err := spdy.RoundTripperFor(e.admin)
		if err != nil {
			t.Fatal(err)
		}
		forwardBoth(t, spdy.NewDialerForStreaming(upgrader, &http.Client{Transport: transport}, http.MethodPost, forward), big)
	})
	t.Run("port-forward over WebSocket", func(t *testing.T) {
		dialer, err := portforward.NewSPDYOverWebsocketDialerForStreaming(forward, e.admin)
		if err != nil {
			t.Fatal(err)
		}
		forwardBoth(t, dialer, big)
	})
	t.Run("a token in the subprotocol", func(t *testing.T) { tokenInSubprotocol(t, e, server) })
}

// forwardBoth sends data through two connections at once, on two ports, and reads it back.
func forwardBoth(t *testing.T, dialer httpstream.Dialer, data []byte) {
	t.Helper()
	stop, ready := make(chan struct{}), make(chan struct{})
	f, err := portforward.NewOnAddressesForStreaming(dialer, []string{"127.0.0.1"}, []string{"0:7", "0:8"}, stop, ready, io.Discard, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- f.ForwardPorts() }()
	defer func() {
		close(stop)
		if err := <-ended; err != nil {
			t.Errorf("the forwarding ended with %v", err)
		}
	}()
	select {
	case <-ready:
	case err := <-ended:
		ended <- err
		t.Fatalf("the forwarding did not start: %v", err)
	}
	ports, err := f.GetPorts()
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for _, port := range ports {
		group.Go(func() {
			if err := echo(t.Context(), port.Local, data); err != nil {
				t.Errorf("port %d: %v", port.Remote, err)
			}
		})
	}
	group.Wait()
}

// echo sends data to a port and expects it back.
func echo(ctx context.Context, port uint16, data []byte) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	sent := make(chan error, 1)
	go func() {
		_, err := conn.Write(data)
		sent <- err
	}()
	got := make([]byte, len(data))
	_, err = io.ReadFull(conn, got)
	if err != nil {
		conn.Close()
	}
	if err := errors.Join(err, <-sent); err != nil {
		return err
	}
	if !bytes.Equal(got, data) {
		return errors.New("other bytes came back")
	}
	return nil
}

// tokenInSubprotocol is how a browser authenticates: it cannot set headers.
func tokenInSubprotocol(t *testing.T, e *environment, server *streamServer) {
	ctx := t.Context()
	ns := e.namespace(t, "browser")
	accounts := e.kube.CoreV1().ServiceAccounts(ns)
	if _, err := accounts.Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "browser"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	e.kubectl(t, "create", "clusterrole", "browser", "--verb=get,create", "--resource=things.stream.example.com/exec")
	e.kubectl(t, "create", "rolebinding", "browser", "--clusterrole=browser", "--serviceaccount="+ns+":browser", "--namespace=default")
	request, err := accounts.CreateToken(ctx, "browser", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	tlsConfig, err := rest.TLSConfigFor(rest.AnonymousClientConfig(e.admin))
	if err != nil {
		t.Fatal(err)
	}
	const prefix = "base64url.bearer.authorization.k8s.io."
	u := streamURL(e.admin, "exec", url.Values{"command": {"echo", "0", "0"}, "stdin": {""}, "stdout": {""}, "stderr": {""}})
	u.Scheme = "wss"
	var conn *websocket.Conn
	eventually(t, "an upgrade with a token in the subprotocol", func(ctx context.Context) error {
		dialer := websocket.Dialer{
			TLSClientConfig: tlsConfig.Clone(),
			Subprotocols:    []string{prefix + base64.RawURLEncoding.EncodeToString([]byte(request.Status.Token)), "v4.channel.k8s.io"},
		}
		c, resp, err := dialer.DialContext(ctx, u.String(), nil)
		if err != nil {
			if resp != nil {
				return fmt.Errorf("%w: %s", err, resp.Status)
			}
			return err
		}
		conn = c
		return nil
	})
	defer conn.Close()
	if got := conn.Subprotocol(); got != "v4.channel.k8s.io" {
		t.Errorf("the subprotocol is %q, want v4.channel.k8s.io", got)
	}
	var text strings.Builder
	for !strings.Contains(text.String(), "Success") {
		_, message, err := conn.ReadMessage()
		if err != nil {
			t.Fatalf("after %q: %v", &text, err)
		}
		text.Write(message)
	}
	header := server.lastHeader()
	if got := header.Get("X-Remote-User"); got != "system:serviceaccount:"+ns+":browser" {
		t.Errorf("the extension server was told of user %q", got)
	}
	if header.Get("Authorization") != "" || strings.Contains(strings.Join(header["Sec-Websocket-Protocol"], ","), prefix) {
		t.Errorf("the token reached the extension server: %v", header)
	}
}
