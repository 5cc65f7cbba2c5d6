package shell_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/util/exec"

	"github.com/annex-api/annex/examples/internal/standalone"
	"github.com/annex-api/annex/examples/shell"
	v1 "github.com/annex-api/annex/examples/shell/v1"
	"github.com/annex-api/annex/extension"
	"github.com/annex-api/annex/extension/extensiontest"
	"github.com/annex-api/annex/extension/extensiontest/conformance"
	"github.com/annex-api/annex/extension/storage/drivers"
)

// patience bounds every session of a test.
const patience = 30 * time.Second

func TestConformance(t *testing.T) {
	running := extensiontest.Start(t, nil, shell.Shells)
	extensiontest.Conform(t, running, conformance.Target{Resource: v1.GroupVersion.WithResource("shells")}, "generation/status", "status/*", "scale/*", "versions/*", "apply/other-version")
}

// start runs the server as its README says, and makes a Shell called sh.
func start(t *testing.T) *rest.Config {
	t.Helper()
	config := standalone.Example{
		Document: "README.md", Name: "shell", Resource: v1.GroupVersion.WithResource("shells"),
		Parts: []extension.Part{shell.Shells, extension.Drivers(drivers.All()...)},
	}.Start(t)
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.Resource(v1.GroupVersion.WithResource("shells")).Namespace("default").Create(t.Context(), &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": v1.GroupVersion.String(), "kind": "Shell", "metadata": map[string]any{"name": "sh"},
	}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return config
}

func at(config *rest.Config, query string) *url.URL {
	u, err := url.Parse(config.Host + "/apis/shell.example.com/v1/namespaces/default/shells/sh/attach?" + query)
	if err != nil {
		panic(err) // a kubeconfig's own
	}
	return u
}

// executors are those of kubectl.
func executors(config *rest.Config) map[string]func(u *url.URL) (remotecommand.Executor, error) {
	return map[string]func(u *url.URL) (remotecommand.Executor, error){
		"SPDY": func(u *url.URL) (remotecommand.Executor, error) {
			return remotecommand.NewSPDYExecutor(config, http.MethodPost, u)
		},
		"WebSocket v5": func(u *url.URL) (remotecommand.Executor, error) {
			return remotecommand.NewWebSocketExecutor(config, http.MethodGet, u.String())
		},
		"WebSocket v4": func(u *url.URL) (remotecommand.Executor, error) {
			return remotecommand.NewWebSocketExecutorForProtocols(config, http.MethodGet, u.String(), "v4.channel.k8s.io")
		},
	}
}

func TestSessions(t *testing.T) {
	config := start(t)
	for name, executor := range executors(config) {
		stream := func(t *testing.T, query string, o remotecommand.StreamOptions) error {
			t.Helper()
			x, err := executor(at(config, query))
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			return x.StreamWithContext(ctx, o)
		}
		t.Run("lines over "+name, func(t *testing.T) {
			var out, errOut bytes.Buffer
			err := stream(t, "stdin=true&stdout=true&stderr=true", remotecommand.StreamOptions{
				Stdin: strings.NewReader("2*(3+4)\nwhoami\nhostname\nwhat\nexit 7\necho never\n"), Stdout: &out, Stderr: &errOut,
			})
			var exit exec.CodeExitError
			if !errors.As(err, &exit) || exit.Code != 7 {
				t.Errorf("it ended with %v, want exit code 7", err)
			}
			if out.String() != "14\nadmin\nsh\n" || !strings.HasPrefix(errOut.String(), "what: neither a sum") {
				t.Errorf("stdout %q, stderr %q", &out, &errOut)
			}
		})
		if name != "WebSocket v4" { // which cannot tell the end of stdin
			t.Run("the end of stdin over "+name, func(t *testing.T) {
				var out bytes.Buffer
				err := stream(t, "stdin=true&stdout=true", remotecommand.StreamOptions{Stdin: strings.NewReader("1+1"), Stdout: &out})
				if err != nil || out.String() != "2\n" {
					t.Errorf("stdout %q, %v; want the line without its end answered", &out, err)
				}
			})
		}
		t.Run("a terminal over "+name, func(t *testing.T) {
			keys, screen := newTerminal()
			err := stream(t, "stdin=true&stdout=true&tty=true", remotecommand.StreamOptions{
				Stdin: keys, Stdout: screen, Tty: true, TerminalSizeQueue: screen,
			})
			if err != nil || !strings.HasPrefix(screen.shown.String(), "> size\r\n") || !strings.HasSuffix(screen.shown.String(), "132x43\r\n> \r\n") {
				t.Errorf("%v; the screen shows %q", err, &screen.shown)
			}
		})
		t.Run("a Shell that there is not over "+name, func(t *testing.T) {
			u := at(config, "stdin=true&stdout=true")
			u.Path = strings.Replace(u.Path, "/sh/", "/none/", 1)
			x, err := executor(u)
			if err != nil {
				t.Fatal(err)
			}
			if err := x.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdin: strings.NewReader(""), Stdout: io.Discard}); err == nil || !strings.Contains(err.Error(), "not found") {
				t.Errorf("it ended with %v, want that there is none", err)
			}
		})
	}
	t.Run("plain messages", func(t *testing.T) { plainMessages(t, config) })
	t.Run("no upgrade", func(t *testing.T) {
		client, err := rest.HTTPClientFor(config)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := client.Get(at(config, "stdin=true").String())
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		if answer.StatusCode != http.StatusBadRequest {
			t.Errorf("a plain GET is answered %s, want 400", answer.Status)
		}
	})
}

// terminal is a person in front of a terminal: its size is told, and what is typed asks for it
// until the answer is the size; then Ctrl-D.
type terminal struct {
	shown bytes.Buffer
	keys  *io.PipeWriter
	sizes chan remotecommand.TerminalSize
	asked int // how much of the screen was answered
}

const question, endOfText = "size\r", "\x04"

func newTerminal() (keys io.Reader, screen *terminal) {
	reader, writer := io.Pipe()
	screen = &terminal{keys: writer, sizes: make(chan remotecommand.TerminalSize, 1)}
	screen.sizes <- remotecommand.TerminalSize{Width: 132, Height: 43}
	close(screen.sizes)
	return reader, screen
}

// Next implements remotecommand.TerminalSizeQueue.
func (s *terminal) Next() *remotecommand.TerminalSize {
	to, ok := <-s.sizes
	if !ok {
		return nil
	}
	return &to
}

// Write implements io.Writer: it reads the screen and types.
func (s *terminal) Write(p []byte) (int, error) {
	s.shown.Write(p)
	shown := s.shown.String()[s.asked:]
	if !strings.HasSuffix(shown, "> ") {
		return len(p), nil
	}
	s.asked = s.shown.Len()
	keys := question
	if strings.Contains(shown, "132x43") {
		keys = endOfText
	}
	if _, err := io.WriteString(s.keys, keys); err != nil {
		return 0, err
	}
	return len(p), nil
}

// plainMessages is what a page of a browser does, and websocat.
func plainMessages(t *testing.T, config *rest.Config) {
	settings, err := rest.TLSConfigFor(config)
	if err != nil {
		t.Fatal(err)
	}
	dialer := websocket.Dialer{TLSClientConfig: settings}
	u := at(config, "")
	u.Scheme = "wss"
	dial := func(header http.Header) (*websocket.Conn, *http.Response, error) {
		header.Set("Authorization", "Bearer "+config.BearerToken)
		return dialer.DialContext(t.Context(), u.String(), header)
	}
	conn, _, err := dial(http.Header{})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]string{"6*7": "42\n", "echo hello": "hello\n", strings.Repeat("1", 2000): "a line has at most 1024 bytes\n"} {
		if err := conn.WriteMessage(websocket.TextMessage, []byte(line)); err != nil {
			t.Fatal(err)
		}
		if _, got, err := conn.ReadMessage(); err != nil || string(got) != want {
			t.Errorf("%.20q is answered %q, %v; want %q", line, got, err, want)
		}
	}
	if err := conn.WriteMessage(websocket.TextMessage, []byte("exit")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := conn.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseNormalClosure) {
		t.Errorf("after exit: %v, want a normal end", err)
	}
	if _, answer, err := dial(http.Header{"Origin": {"https://elsewhere.example.com"}}); err == nil || answer == nil || answer.StatusCode != http.StatusForbidden {
		t.Errorf("a page of another origin: %v, want 403", err)
	}
	u.RawQuery = "stdin=true"
	other, _, err := dial(http.Header{"Sec-Websocket-Protocol": {"v1.unknown"}})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, _, err := other.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseProtocolError) {
		t.Errorf("an unknown subprotocol: %v, want a protocol error", err)
	}
}

// A server that stops ends its sessions.
func TestAStopEndsSessions(t *testing.T) {
	ended := make(chan error, 1)
	t.Run("server", func(t *testing.T) {
		config := start(t)
		x, err := remotecommand.NewWebSocketExecutor(config, http.MethodGet, at(config, "stdin=true&stdout=true&tty=true").String())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
		keys, _ := io.Pipe()
		prompted := newSignal()
		go func() {
			defer cancel()
			ended <- x.StreamWithContext(ctx, remotecommand.StreamOptions{Stdin: keys, Stdout: prompted, Tty: true})
		}()
		select {
		case <-prompted.wrote:
		case err := <-ended:
			ended <- err
			t.Fatalf("the session ended with %v before it began", err)
		}
	}) // the server stops here
	if err := <-ended; err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the session ended with %v, want that it was ended", err)
	}
}

// signal tells of the first write.
type signal struct{ wrote chan struct{} }

func newSignal() signal { return signal{make(chan struct{}, 1)} }

func (s signal) Write(p []byte) (int, error) {
	select {
	case s.wrote <- struct{}{}:
	default:
	}
	return len(p), nil
}
