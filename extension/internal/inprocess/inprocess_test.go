package inprocess

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/rest"
)

// serve serves a handler on a listener until the test ends.
func serve(t *testing.T, handler http.HandlerFunc) *Listener {
	t.Helper()
	l := Listen()
	server := &http.Server{Handler: handler, ConnContext: ConnContext}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return l
}

func client(t *testing.T, l *Listener, who user.Info) (*rest.Config, *http.Client) {
	t.Helper()
	config, err := l.Client(who)
	if err != nil {
		t.Fatal(err)
	}
	c, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdleConnections)
	return config, c
}

var alice = &user.DefaultInfo{Name: "alice", UID: "u-1", Groups: []string{"a", "b"}, Extra: map[string][]string{"example.com/team": {"x", "y"}}}

// A request has the user that its client was made for, whatever its headers say, and the
// handler does not see how that is told.
func TestTheUserIsThatOfTheClient(t *testing.T) {
	var got user.Info
	l := serve(t, func(w http.ResponseWriter, r *http.Request) {
		response, ok, err := Authenticator().AuthenticateRequest(r)
		if err != nil || !ok {
			http.Error(w, fmt.Sprint(ok, err), http.StatusUnauthorized)
			return
		}
		got = response.User
		if len(r.Header.Values(header)) != 0 || r.TLS != nil {
			t.Errorf("the handler sees %v, TLS %v", r.Header, r.TLS)
		}
	})
	for _, who := range []*user.DefaultInfo{alice, {Name: "bob"}} {
		config, c := client(t, l, who)
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, config.Host, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set(header, "mallory")
		response, err := c.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusOK {
			t.Fatalf("%s is answered with %s", who.Name, response.Status)
		}
		if diff := cmp.Diff(user.Info(who), got); diff != "" {
			t.Error(diff)
		}
	}
}

// On a connection from anywhere else, the same headers say nothing. What is no user is an
// error and not somebody.
func TestOnlyConnectionsOfTheListenerAreBelieved(t *testing.T) {
	inside := http.Header{}
	config, err := Listen().Client(alice)
	if err != nil {
		t.Fatal(err)
	}
	_, err = config.WrapTransport(roundTripper(func(r *http.Request) (*http.Response, error) {
		inside = r.Header
		return httptest.NewRecorder().Result(), nil
	})).RoundTrip(httptest.NewRequest(http.MethodGet, "/", nil))
	if err != nil || len(inside) != 1 {
		t.Fatal(err, inside)
	}
	outside := httptest.NewRequest(http.MethodGet, "/", nil)
	outside.Header = inside.Clone()
	if response, ok, err := Authenticator().AuthenticateRequest(outside); ok || err != nil {
		t.Errorf("from outside it is %v, %v", response, err)
	}
	if outside.Header.Get(header) != "" {
		t.Error("what came from outside is passed on")
	}
	for _, wrong := range []string{"%", "bm9uZQ=="} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r = r.WithContext(ConnContext(r.Context(), nil))
		r.Header.Set(header, wrong)
		if _, ok, err := Authenticator().AuthenticateRequest(r); ok || err == nil {
			t.Errorf("%q is somebody", wrong)
		}
	}
}

// What a server flushes arrives while it goes on, as a watch needs it, and the end of the
// client is seen.
func TestAnAnswerMayGoOn(t *testing.T) {
	gone := make(chan struct{})
	l := serve(t, func(w http.ResponseWriter, r *http.Request) {
		for i := range 2 {
			fmt.Fprintln(w, "event", i)
			w.(http.Flusher).Flush()
		}
		<-r.Context().Done()
		close(gone)
	})
	config, c := client(t, l, alice)
	ctx, cancel := context.WithCancel(t.Context())
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, config.Host+"/watch", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := c.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	lines := bufio.NewReader(response.Body)
	for i := range 2 {
		if line, err := lines.ReadString('\n'); err != nil || line != fmt.Sprintln("event", i) {
			t.Errorf("got %q, %v", line, err)
		}
	}
	cancel()
	<-gone
}

// A connection may be upgraded.
func TestAConnectionMayBeUpgraded(t *testing.T) {
	l := serve(t, func(w http.ResponseWriter, r *http.Request) {
		c, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		kind, data, err := c.ReadMessage()
		if err == nil {
			err = c.WriteMessage(kind, append([]byte("re: "), data...))
		}
		if err != nil {
			t.Error(err)
		}
	})
	config, _ := client(t, l, alice)
	d := websocket.Dialer{NetDialContext: config.Dial}
	c, _, err := d.DialContext(t.Context(), "ws://"+host, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.WriteMessage(websocket.TextMessage, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, data, err := c.ReadMessage(); err != nil || string(data) != "re: hello" {
		t.Errorf("got %q, %v", data, err)
	}
}

// Nobody waits for a listener that nobody accepts from, or that is closed.
func TestDialingEnds(t *testing.T) {
	l := Listen()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.dial(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("a dial whose context is over gives %v", err)
	}
	for range 2 {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := l.dial(t.Context()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a dial to a closed listener gives %v", err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a closed listener accepts %v", err)
	}
	_, c := client(t, l, alice)
	if response, err := c.Get("http://" + host); err == nil {
		_, _ = io.Copy(io.Discard, response.Body)
		response.Body.Close()
		t.Error("a closed listener answers")
	}
}
