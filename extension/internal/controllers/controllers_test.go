package controllers

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/annex-api/annex/extension/internal/inprocess"
)

// run is a runner that does what it is for at once.
type run func(context.Context) error

func (r run) Start(ctx context.Context, report func(error)) error {
	report(nil)
	return r(ctx)
}

// never is a runner that cannot begin, such as one that may not list what it watches, and
// gives up after a while.
type never time.Duration

func (n never) Start(ctx context.Context, _ func(error)) error {
	if !sleep(ctx, time.Duration(n)) {
		return nil
	}
	return errLost
}

// errLost is what a manager says whose lease another one has.
var errLost = errors.New("leader election lost")

// Controllers whose lease is lost start anew, after a pause that grows while they do not
// run, and their health tells meanwhile. They end with their context.
func TestControllersStartAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		health := &Health{}
		var (
			mu      sync.Mutex // over what follows
			at      []time.Duration
			lasting time.Duration
			fails   bool
		)
		once := run(func(ctx context.Context) error {
			mu.Lock()
			at = append(at, time.Since(begun))
			long := lasting
			mu.Unlock()
			if err := health.Err(); err != nil {
				t.Errorf("while they run: %v", err)
			}
			if !sleep(ctx, long) {
				return nil
			}
			return errLost
		})
		c := &Controllers{options: Options{Health: health, Log: logr.Discard()}, first: once, again: func() (runner, error) {
			mu.Lock()
			defer mu.Unlock()
			if fails {
				return nil, errors.New("no manager")
			}
			return once, nil
		}}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- c.Run(ctx) }()
		time.Sleep(10 * time.Second)
		mu.Lock()
		if want := []time.Duration{0, time.Second, 3 * time.Second, 7 * time.Second}; cmp.Diff(want, at) != "" {
			t.Errorf("they began at %v, want %v", at, want)
		}
		if err := health.Err(); !errors.Is(err, errLost) {
			t.Errorf("while they do not run: %v", err)
		}
		fails = true
		mu.Unlock()
		time.Sleep(10 * time.Minute)
		if err := health.Err(); err == nil || !strings.Contains(err.Error(), "no manager") {
			t.Errorf("while they cannot be set up: %v", err)
		}
		// No pause is longer than a minute, and after a long run it is short again.
		mu.Lock()
		fails, lasting, at = false, time.Hour, nil
		mu.Unlock()
		time.Sleep(longestPause + 2*time.Hour)
		mu.Lock()
		if len(at) < 2 || at[1]-at[0] != time.Hour+firstPause {
			t.Errorf("they began at %v", at)
		}
		mu.Unlock()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// Controllers that start anew again and again, and never run, are not well in between, and
// the pause grows however long each attempt takes.
func TestControllersThatNeverRunAreNotWell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const attempt = 2 * time.Minute
		begun, health, attempts := time.Now(), &Health{}, 0
		health.set(errNotStarted)
		var last time.Duration
		c := &Controllers{options: Options{Health: health, Log: logr.Discard()}, first: never(attempt), again: func() (runner, error) {
			attempts++
			last = time.Since(begun)
			return never(attempt), nil
		}}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- c.Run(ctx) }()
		for range 3600 {
			time.Sleep(time.Second)
			if health.Err() == nil {
				t.Fatalf("they are well after %v", time.Since(begun))
			}
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if attempts < 10 || last < time.Duration(attempts-6)*(attempt+longestPause) {
			t.Errorf("%d attempts up to %v", attempts, last)
		}
	})
}

// They do not begin before the server can be called.
func TestControllersWaitForTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var began atomic.Bool
		ready := make(chan struct{})
		health := &Health{}
		health.set(errNotStarted)
		c := &Controllers{options: Options{Health: health, Ready: ready, Log: logr.Discard()}, first: run(func(ctx context.Context) error {
			began.Store(true)
			<-ctx.Done()
			return nil
		})}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- c.Run(ctx) }()
		synctest.Wait()
		if began.Load() {
			t.Error("they began before the server was ready")
		}
		if err := health.Err(); !errors.Is(err, errNotStarted) {
			t.Errorf("before they began: %v", err)
		}
		close(ready)
		synctest.Wait()
		if !began.Load() {
			t.Error("they do not begin")
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// A controller that cannot be set up is an error at the start, with its name. The address
// of their health is free again.
func TestWhatCannotBeSetUpIsNamed(t *testing.T) {
	o := Options{Config: &rest.Config{Host: "http://127.0.0.1:1"}, Scheme: runtime.NewScheme(), HealthAddress: "127.0.0.1:0", Log: logr.Discard()}
	_, err := New(o, Setup{Name: "widget", Add: func(manager.Manager) error { return errors.New("no client") }})
	if err == nil || !strings.Contains(err.Error(), "set up the controller widget: no client") {
		t.Errorf("got %v", err)
	}
	o.HealthAddress = "nowhere:-1"
	if _, err := New(o); err == nil || !strings.Contains(err.Error(), "nowhere:-1") {
		t.Errorf("got %v", err)
	}
}

// Their health is served as long as they are to run, and tells why they do not.
func TestHealthIsServed(t *testing.T) {
	fail := make(chan struct{})
	o := Options{Config: &rest.Config{Host: "http://127.0.0.1:1"}, Scheme: runtime.NewScheme(), HealthAddress: "127.0.0.1:0", Health: &Health{}, Log: logr.Discard()}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Health.Err(); !errors.Is(err, errNotStarted) {
		t.Errorf("before they run: %v", err)
	}
	paused, running := make(chan struct{}), make(chan struct{})
	c.first = run(func(context.Context) error { close(running); <-fail; return errLost })
	c.again = func() (runner, error) {
		close(paused)
		return run(func(ctx context.Context) error { <-ctx.Done(); return nil }), nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	address := "http://" + c.listener.Addr().String()
	get := func(path string) (int, string) {
		t.Helper()
		response, err := http.Get(address + path)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, string(body)
	}
	<-running
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/livez": 200, "/metrics": 404} {
		if code, body := get(path); code != want {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	close(fail)
	for {
		code, body := get("/readyz")
		if code == http.StatusServiceUnavailable && strings.Contains(body, errLost.Error()) {
			break
		}
		select {
		case <-paused:
			t.Fatalf("they start anew, and readiness never failed: %d %s", code, body)
		default:
		}
	}
	if code, _ := get("/livez"); code != http.StatusOK {
		t.Errorf("a restart is asked for: %d", code)
	}
	<-paused
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := http.Get(address); err == nil {
		t.Error("their health is served after their end")
	}
}

// Groups of the server are reached in process, as the server's user and whatever the
// host's address and headers are, and everything else by the host.
func TestBoth(t *testing.T) {
	for what, base := range map[string]string{"at the root": "", "below a path": "/k8s/clusters/c-1"} {
		t.Run(what, func(t *testing.T) {
			atHost := ""
			host := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				atHost = r.URL.Path + " by " + r.Header.Get("Authorization") + " as " + r.Header.Get("Impersonate-User")
			}))
			defer host.Close()
			inside := ""
			l := inprocess.Listen()
			server := &http.Server{ConnContext: inprocess.ConnContext, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				who, _, err := inprocess.Authenticator().AuthenticateRequest(r)
				if err != nil || who == nil {
					t.Errorf("who it is: %v", err)
					return
				}
				inside = r.URL.EscapedPath() + " by " + who.User.GetName() + r.Header.Get("Authorization") + r.Header.Get("Impersonate-User") + r.Header.Get("Impersonate-Group") + r.Header.Get("Impersonate-Extra-A")
			})}
			ended := make(chan error, 1)
			go func() { ended <- server.Serve(l) }()
			defer func() {
				_ = server.Close()
				<-ended
			}()
			own, err := l.Client(&user.DefaultInfo{Name: "controller"})
			if err != nil {
				t.Fatal(err)
			}
			config := &rest.Config{
				Host: host.URL + base, BearerToken: "token",
				Impersonate: rest.ImpersonationConfig{UserName: "alice", Groups: []string{"g"}, Extra: map[string][]string{"a": {"b"}}},
			}
			both, err := Both(config, own, []string{"things.example.com"})
			if err != nil {
				t.Fatal(err)
			}
			if both.QPS >= 0 {
				t.Errorf("requests are held back at %v a second", both.QPS)
			}
			slow := rest.CopyConfig(config)
			slow.QPS = 7
			if held, err := Both(slow, own, nil); err != nil || held.QPS != 7 {
				t.Errorf("what the user set is %v, %v", held.QPS, err)
			}
			c, err := rest.HTTPClientFor(both)
			if err != nil {
				t.Fatal(err)
			}
			defer c.CloseIdleConnections()
			for path, in := range map[string]bool{
				"/apis/things.example.com":                          true,
				"/apis/things.example.com/v1/things/a%2Fb":          true,
				"/apis/things.example.community/v1/things":          false,
				"/apis/apps/v1/namespaces/default/deployments/x":    false,
				"/api/v1/namespaces/default/pods/x":                 false,
				"/api/v1/namespaces/apis/things.example.com/things": false,
			} {
				atHost, inside = "", ""
				response, err := c.Get(host.URL + base + path)
				if err != nil {
					t.Fatal(err)
				}
				response.Body.Close()
				if want := path + " by controller"; in && (inside != want || atHost != "") {
					t.Errorf("%s: in process %q, at the host %q", path, inside, atHost)
				}
				if want := base + path + " by Bearer token as alice"; !in && (atHost != want || inside != "") {
					t.Errorf("%s: in process %q, at the host %q", path, inside, atHost)
				}
			}
		})
	}
}
