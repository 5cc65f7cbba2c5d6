package registry

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/authentication/user"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"

	"github.com/annex-api/annex/extension/internal/kind"
)

// At a stop the context of each session ends, no other one begins, and those that end are
// waited for.
func TestSessionsEndWithTheirContexts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewSessions()
		for range 3 {
			ctx, x, err := s.begin(t.Context(), func() {})
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				<-ctx.Done()
				if cause := context.Cause(ctx); !errors.Is(cause, errStopping) {
					t.Errorf("the context ends because of %v", cause)
				}
				time.Sleep(time.Second) // it has something to put away
				x.leave()
			}()
		}
		_, ended, err := s.begin(t.Context(), func() {})
		if err != nil {
			t.Fatal(err)
		}
		ended.leave()
		begun := time.Now()
		if left := s.End(time.Minute); left != 0 || time.Since(begun) != time.Second {
			t.Errorf("%d are left after %v", left, time.Since(begun))
		}
		if _, _, err := s.begin(t.Context(), func() {}); !apierrors.IsServiceUnavailable(err) {
			t.Errorf("another one begins with %v", err)
		}
		if left := s.End(time.Minute); left != 0 {
			t.Errorf("at a second stop %d are left", left)
		}
	})
}

// What minds nothing is given up after the grace and a while, and counted.
func TestASessionThatDoesNotEndIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewSessions()
		if _, _, err := s.begin(t.Context(), func() {}); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		if left := s.End(time.Minute); left != 1 || time.Since(begun) != time.Minute+brokenOff {
			t.Errorf("%d are left after %v", left, time.Since(begun))
		}
	})
}

// over serves a handler over HTTP/1.1 and HTTP/2.
func over(t *testing.T, handler http.HandlerFunc, test func(t *testing.T, server *httptest.Server)) {
	for name, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewUnstartedServer(handler)
			server.EnableHTTP2 = http2
			server.StartTLS()
			defer server.Close()
			test(t, server)
		})
	}
}

// A handler that reads and does not mind its context is broken off.
func TestASessionThatReadsIsBrokenOff(t *testing.T) {
	var s *Sessions
	reading, ended := make(chan struct{}, 1), make(chan error, 1)
	over(t, func(w http.ResponseWriter, r *http.Request) {
		_, x, err := s.begin(r.Context(), func() {})
		if err != nil {
			t.Error(err)
			return
		}
		defer x.leave()
		w = x.handle(w)
		reading <- struct{}{}
		_, err = io.Copy(io.Discard, r.Body)
		ended <- err
		w.WriteHeader(http.StatusOK)
	}, func(t *testing.T, server *httptest.Server) {
		s = NewSessions()
		body, write := io.Pipe()
		defer write.Close()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, body)
		if err != nil {
			t.Fatal(err)
		}
		var sent sync.WaitGroup
		sent.Go(func() {
			if response, err := server.Client().Do(request); err == nil {
				response.Body.Close()
			}
		})
		<-reading
		if left := s.End(0); left != 0 {
			t.Errorf("%d are left", left)
		}
		if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("its reading ends with %v", err)
		}
		_ = write.Close()
		sent.Wait()
	})
}

// A connection that was taken over is closed, also if its handler has returned, and one
// that is half closed is known to be.
func TestHijackedConnectionsAreClosed(t *testing.T) {
	s := NewSessions()
	open, handed := make(chan struct{}), make(chan net.Conn, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, x, err := s.begin(r.Context(), func() {})
		if err != nil {
			t.Error(err)
			return
		}
		defer x.leave()
		w = x.handle(w)
		if _, ok := w.(http.Flusher); !ok {
			t.Error("the writer cannot be flushed")
		}
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		if _, ok := conn.(interface{ CloseWrite() error }); !ok {
			t.Error("the connection does not close its halves")
		}
		if r.URL.Path == "/handed" {
			handed <- conn
			return
		}
		close(open)
		defer conn.Close()
		_, _ = io.Copy(io.Discard, conn)
	}))
	defer server.Close()
	var clients []net.Conn
	for _, path := range []string{"/", "/handed"} {
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		clients = append(clients, conn)
	}
	<-open
	defer (<-handed).Close()
	if left := s.End(0); left != 0 {
		t.Errorf("%d are left", left)
	}
	for _, c := range clients {
		if err := c.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		if n, err := c.Read(make([]byte, 1)); n != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a client reads %d bytes, %v", n, err)
		}
	}
}

// object is what an action or a stream is of.
type object struct{ metav1.PartialObjectMetadata }

func (o *object) DeepCopyObject() runtime.Object { c := *o; return &c }

func (o *object) Get(context.Context, string, *metav1.GetOptions) (runtime.Object, error) {
	return o, nil
}

// ofThings gives an action of a kind, as the registry serves it.
func ofThings(do func(context.Context) error) *action {
	k := &kind.Kind{Names: kind.Names{Kind: "Thing", Plural: "things"}}
	of := kind.Subresource{Name: "do", Action: &kind.Action{
		NewIn: func() any { return new(map[string]any) },
		Do:    func(ctx context.Context, _ runtime.Object, _ any) (any, error) { return map[string]string{}, do(ctx) },
	}}
	return ofObject(k, of, &object{}, Options{Sessions: NewSessions()}).(*action)
}

// answer keeps the error that a request is answered with.
type answer struct{ err error }

func (a *answer) Object(int, runtime.Object) {}
func (a *answer) Error(err error)            { a.err = err }

// by gives the context of a user's request.
func by(t *testing.T, name string) context.Context {
	return genericapirequest.WithUser(t.Context(), &user.DefaultInfo{Name: name})
}

// isBusy says whether who is refused is told when to come back.
func isBusy(err error) bool {
	seconds, ok := apierrors.SuggestsClientDelay(err)
	return apierrors.IsTooManyRequests(err) && ok && seconds == busyRetry
}

// No more than so many of one action are under way, and no more than a share of one user,
// with another bound for those whose body arrives.
func TestActionsAreBounded(t *testing.T) {
	hold, begun := make(chan struct{}), make(chan struct{}, 3)
	a := ofThings(func(context.Context) error {
		begun <- struct{}{}
		<-hold
		return nil
	})
	for _, s := range []*shares{a.room, a.running} {
		if s.most != maxActions || s.perUser != maxActions/4 {
			t.Fatalf("%d may be under way, and %d of one user", s.most, s.perUser)
		}
	}
	a.room, a.running = newShares("things/do", 4, 2), newShares("things/do", 3, 2)
	said := map[http.Handler]*answer{}
	connect := func(name string) (http.Handler, error) {
		to := &answer{}
		h, err := a.Connect(by(t, name), "one", nil, to)
		if err == nil {
			h = &handler{h}
			said[h] = to
		}
		return h, err
	}
	must := func(name string) http.Handler {
		t.Helper()
		h, err := connect(name)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	serve := func(h http.Handler) error {
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/", nil))
		return said[h].err
	}
	// Bodies that do not come shut out nobody else, and do not run.
	slow := []http.Handler{must("alice"), must("alice")}
	if _, err := connect("alice"); !isBusy(err) {
		t.Errorf("a third body of one user is answered with %v", err)
	}
	others := []http.Handler{must("bob"), must("carol")}
	if _, err := connect("dave"); !isBusy(err) {
		t.Errorf("a fifth body is answered with %v", err)
	}
	var under sync.WaitGroup
	run := func(h http.Handler) {
		under.Go(func() {
			if err := serve(h); err != nil {
				t.Error(err)
			}
		})
		<-begun
	}
	// Those that run leave the place for bodies, and are counted for themselves.
	for _, h := range slow {
		run(h)
	}
	if err := serve(must("alice")); !isBusy(err) {
		t.Errorf("a third one of a user is answered with %v", err)
	}
	run(others[0])
	if err := serve(others[1]); !isBusy(err) {
		t.Errorf("a fourth one is answered with %v", err)
	}
	close(hold)
	under.Wait()
	if err := serve(must("alice")); err != nil {
		t.Error(err)
	}
	// What fails before it begins holds no place.
	a.store = away{}
	for range 5 {
		if _, err := connect("alice"); !apierrors.IsServiceUnavailable(err) {
			t.Errorf("without a storage the answer is %v", err)
		}
	}
	if left := a.sessions.End(0); left != 0 {
		t.Errorf("%d are still under way", left)
	}
	for range 5 {
		if _, err := connect("alice"); !apierrors.IsServiceUnavailable(err) {
			t.Errorf("after the end the answer is %v", err)
		}
	}
	if len(a.room.users) != 0 || a.room.all != 0 || len(a.running.users) != 0 || a.running.all != 0 {
		t.Errorf("places are held: %v, %v", a.room.users, a.running.users)
	}
}

// handler makes handlers comparable.
type handler struct{ http.Handler }

// No more than so many streams of one kind are open, and a share of them of one user, as
// long as their connections are.
func TestStreamsAreBounded(t *testing.T) {
	k := &kind.Kind{Names: kind.Names{Kind: "Thing", Plural: "things"}}
	taken := make(chan net.Conn, 1)
	of := kind.Subresource{Name: "flow", Connect: &kind.Connect{Methods: []string{http.MethodPost}, Serve: func(context.Context, runtime.Object) (http.Handler, error) {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
			}
			taken <- conn
		}), nil
	}}}
	c := ofObject(k, of, &object{}, Options{Sessions: NewSessions()}).(*connect)
	if c.room.most != maxStreams || c.room.perUser != maxStreams/4 {
		t.Fatalf("%d may be open, and %d of one user", c.room.most, c.room.perUser)
	}
	c.room = newShares("things/flow", 2, 1)
	open := func(name string) (http.Handler, error) { return c.Connect(by(t, name), "one", nil, &answer{}) }
	h, err := open("alice")
	if err != nil {
		t.Fatal(err)
	}
	mine, theirs := net.Pipe()
	defer theirs.Close()
	h.ServeHTTP(&hijacked{ResponseRecorder: httptest.NewRecorder(), conn: mine}, httptest.NewRequest(http.MethodPost, "/", nil))
	// Its handler has returned, and its connection is open.
	if _, err := open("alice"); !isBusy(err) {
		t.Errorf("a second one of a user is answered with %v", err)
	}
	if _, err := open("bob"); err != nil {
		t.Errorf("another one's is answered with %v", err)
	}
	if _, err := open("carol"); !isBusy(err) {
		t.Errorf("a third one is answered with %v", err)
	}
	_ = (<-taken).Close()
	if _, err := open("alice"); err != nil {
		t.Errorf("after the first one's end the answer is %v", err)
	}
}

// hijacked is a writer whose connection can be taken over, once before was called.
type hijacked struct {
	*httptest.ResponseRecorder
	conn   net.Conn
	before func()
}

func (h *hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if h.before != nil {
		h.before()
	}
	return h.conn, nil, nil
}

// A connection that is taken over while its session is broken off is closed, as nobody
// would close it later.
func TestAConnectionThatIsTakenTooLateIsClosed(t *testing.T) {
	s := NewSessions()
	_, x, err := s.begin(t.Context(), func() {})
	if err != nil {
		t.Fatal(err)
	}
	mine, theirs := net.Pipe()
	defer theirs.Close()
	w := x.handle(&hijacked{ResponseRecorder: httptest.NewRecorder(), conn: mine, before: x.breakOff})
	if conn, _, err := w.(http.Hijacker).Hijack(); conn != nil || !errors.Is(err, errStopping) {
		t.Errorf("the handler gets %v, %v", conn, err)
	}
	if _, err := mine.Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("it can be written to: %v", err)
	}
	x.leave()
	if left := s.End(0); left != 0 {
		t.Errorf("%d are left", left)
	}
}

type away struct{}

func (away) Get(context.Context, string, *metav1.GetOptions) (runtime.Object, error) {
	return nil, apierrors.NewServiceUnavailable("away")
}

// A body that stops is not waited for. The time for it is not that of the action.
func TestTheBodyOfAnActionHasItsTime(t *testing.T) {
	const limit = 100 * time.Millisecond
	if a := ofThings(nil); a.body != actionBody {
		t.Fatalf("a body may take %v", a.body)
	}
	said := &answer{}
	over(t, func(w http.ResponseWriter, r *http.Request) {
		a := ofThings(func(ctx context.Context) error {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(3 * limit):
				return nil
			}
		})
		a.body = limit
		*said = answer{}
		h, err := a.Connect(r.Context(), "one", nil, said)
		if err != nil {
			t.Error(err)
			return
		}
		h.ServeHTTP(w, r)
	}, func(t *testing.T, server *httptest.Server) {
		body, write := io.Pipe()
		defer write.Close()
		go func() { _, _ = write.Write([]byte(`{"a":`)) }() // the rest never comes
		response, err := server.Client().Post(server.URL, "application/json", body)
		if err == nil {
			response.Body.Close()
		}
		if !apierrors.IsBadRequest(said.err) || said.err.Error() != "the body did not arrive within 100ms" {
			t.Errorf("a body that stops is answered with %v", said.err)
		}
		response, err = server.Client().Post(server.URL, "application/json", bytes.NewReader([]byte(`{"a":1}`)))
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK || said.err != nil {
			t.Errorf("an action that takes longer than its body: %d, %v", response.StatusCode, said.err)
		}
	})
}
