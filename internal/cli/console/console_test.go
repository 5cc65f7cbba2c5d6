package console

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"github.com/annex-api/annex/internal/cli/terminal"
)

// patience bounds waits for what is expected to happen.
const patience = time.Minute

// upstream is an API server that remembers what it was asked.
type upstream struct {
	*httptest.Server
	mu       sync.Mutex
	requests []string
	headers  []http.Header
	answer   func(w http.ResponseWriter, r *http.Request)
}

func newUpstream(t *testing.T, answer func(w http.ResponseWriter, r *http.Request)) *upstream {
	t.Helper()
	u := &upstream{answer: answer}
	u.Server = httptest.NewTLSServer(u)
	t.Cleanup(u.Close)
	return u
}

func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	u.mu.Lock()
	u.requests, u.headers = append(u.requests, r.Method+" "+r.URL.RequestURI()), append(u.headers, r.Header.Clone())
	answer := u.answer
	u.mu.Unlock()
	answer(w, r)
}

// take returns what was asked since the last call.
func (u *upstream) take() ([]string, []http.Header) {
	u.mu.Lock()
	defer u.mu.Unlock()
	requests, headers := u.requests, u.headers
	u.requests, u.headers = nil, nil
	return requests, headers
}

// kubeconfig writes one that leads to the server with a token.
func (u *upstream) kubeconfig(t *testing.T) string {
	t.Helper()
	config := api.NewConfig()
	config.Clusters["c"] = &api.Cluster{Server: u.URL, InsecureSkipTLSVerify: true}
	config.AuthInfos["u"] = &api.AuthInfo{Token: "the-users-token"}
	config.Contexts["there"] = &api.Context{Cluster: "c", AuthInfo: "u"}
	config.CurrentContext = "there"
	file := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*config, file); err != nil {
		t.Fatal(err)
	}
	return file
}

func empty(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, `{"metadata":{"resourceVersion":"1"},"items":[]}`)
}

// said is what a command has written so far.
type said struct {
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{}
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text.Write(p)
	select {
	case s.more <- struct{}{}:
	default:
	}
	return len(p), nil
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

var printed = regexp.MustCompile(`http://127\.0\.0\.1:\d+/console/#token=\S+`)

// running is a command under way.
type running struct {
	address  string
	origin   string
	out, err *said
	stop     func() error
}

// start runs the command until it has printed its address.
func start(t *testing.T, args ...string) *running {
	t.Helper()
	r := &running{out: &said{more: make(chan struct{}, 1)}, err: &said{more: make(chan struct{}, 1)}}
	cmd := New(terminal.IO{Out: r.out, Err: r.err})
	cmd.SetArgs(args)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- cmd.ExecuteContext(ctx) }()
	r.stop = sync.OnceValue(func() error {
		cancel()
		select {
		case err := <-ended:
			return err
		case <-time.After(patience):
			return fmt.Errorf("the command did not end")
		}
	})
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
	deadline := time.After(patience)
	for r.address == "" {
		select {
		case <-r.out.more:
			r.address = printed.FindString(r.out.String())
		case err := <-ended:
			t.Fatalf("the command ended: %v", err)
		case <-deadline:
			t.Fatalf("no address was printed: %s", r.out)
		}
	}
	u, err := url.Parse(r.address)
	if err != nil {
		t.Fatal(err)
	}
	r.origin = "http://" + u.Host
	return r
}

// get asks as a browser would; a header Host is the request's host.
func get(t *testing.T, client *http.Client, method, address string, header ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		if r.Header.Set(header[i], header[i+1]); header[i] == "Host" {
			r.Host = header[i+1]
		}
	}
	response, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(body)
}

// browser follows no redirect.
func browser(t *testing.T) *http.Client {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// saying is a transport that says a token as the page does.
type saying struct {
	http.RoundTripper
	token string
}

func (s saying) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set(tokenHeader, s.token)
	return s.RoundTripper.RoundTrip(r)
}

// token is that of the address.
func (r *running) token() string {
	_, token, _ := strings.Cut(r.address, "#token=")
	return token
}

// owner is the browser of who has the address.
func (r *running) owner(t *testing.T) *http.Client {
	t.Helper()
	client := browser(t)
	client.Transport = saying{client.Transport, r.token()}
	return client
}

func TestWhoMayOpenThePage(t *testing.T) {
	u := newUpstream(t, empty)
	r := start(t, "--kubeconfig", u.kubeconfig(t))
	if !strings.Contains(r.out.String(), "context there") {
		t.Errorf("printed: %s", r.out)
	}
	u.take()
	stranger, owner, guess := browser(t), r.owner(t), browser(t)
	guess.Transport = saying{guess.Transport, "guess"}
	for _, path := range []string{
		"/console/api/about", "/console/api/doctor?name=v1.a", "/console/none", "/console/api/", "/console/x/../api/about", "/x", readable[0], readable[1] + "?watch=1",
		readable[0] + "?token=" + r.token(), "/console/api%2fabout", "//console/api/about", "/console/app.js/../api/about",
	} {
		for name, client := range map[string]*http.Client{"who says nothing": stranger, "who guesses": guess} {
			// What came as a cookie or in the query is worth nothing: others can have these sent.
			a, body := get(t, client, http.MethodGet, r.origin+path, "Cookie", tokenHeader+"="+r.token())
			if a.StatusCode != http.StatusForbidden || a.Header.Get("Content-Type") != "application/json" || !strings.Contains(body, "open the whole address") {
				t.Errorf("%s gets %s: %d %s", name, path, a.StatusCode, body)
			}
		}
	}
	if asked, _ := u.take(); len(asked) > 0 {
		t.Errorf("strangers had the API server asked %q", asked)
	}
	// The page itself holds nothing of the cluster, and no secret. No cookie is set, which would go to
	// every port of this host.
	for path, want := range map[string]int{"/": 302, "/console": 302, "/console/": 200, "/console/app.js": 200, "/console/app.css": 200, "/console/icon.svg": 200} {
		a, body := get(t, stranger, http.MethodGet, r.origin+path)
		if a.StatusCode != want || len(a.Cookies()) > 0 || strings.Contains(body, r.token()) || a.Header.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("the page's file %s: %d, cookies %v", path, a.StatusCode, a.Cookies())
		}
	}
	for path, want := range map[string]int{
		"/console/": 200, "/console/app.js": 200, "/console/api/about": 200, readable[0]: 200, readable[1]: 200, "/": 302, "/console/none": 404,
	} {
		if a, body := get(t, owner, http.MethodGet, r.origin+path); a.StatusCode != want || a.Header.Get("Content-Security-Policy") == "" {
			t.Errorf("%s: %d %s", path, a.StatusCode, body)
		}
	}
	for name, header := range map[string][]string{
		"a rebound name":     {"Host", "evil.test"},
		"another origin":     {"Origin", "http://evil.test"},
		"another local port": {"Origin", "http://127.0.0.1:1", "Sec-Fetch-Site", "same-site", "Sec-Fetch-Mode", "cors"},
		"an image":           {"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Dest", "image"},
	} {
		for _, path := range []string{"/console/", readable[0], strings.TrimPrefix(r.address, r.origin)} {
			if a, body := get(t, owner, http.MethodGet, r.origin+path, header...); a.StatusCode < 400 {
				t.Errorf("%s, %s: %d %s", name, path, a.StatusCode, body)
			}
		}
	}
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions} {
		if a, _ := get(t, owner, method, r.origin+readable[0]); a.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("%s: %d", method, a.StatusCode)
		}
	}
}

func TestWhatOfTheAPIIsReached(t *testing.T) {
	u := newUpstream(t, empty)
	r := start(t, "--kubeconfig", u.kubeconfig(t))
	owner := r.owner(t)
	u.take()
	for _, path := range []string{
		"/api/v1/secrets", "/apis", "/version", "/healthz", "/metrics", "/openapi/v2", readable[0] + "/", readable[0] + "/v1.a", readable[1] + "/v1.a/status",
		"/apis/aggregation.annex.dev/v1alpha1", "/console/../api/v1/secrets", "/apis/x/%2e%2e/%2e%2e/api/v1/secrets", readable[0] + "/%2e%2e/%2e%2e/%2e%2e/%2e%2e/api/v1/secrets",
		"//api/v1/secrets", readable[0] + "%2f..%2f", eventsPath + "/x", "/api/v1/events", "/api/v1/namespaces/kube-system/events",
	} {
		get(t, owner, http.MethodGet, r.origin+path)
	}
	if asked, _ := u.take(); len(asked) > 0 {
		t.Errorf("the API server was asked %q", asked)
	}
	a, body := get(t, owner, http.MethodGet, r.origin+readable[0]+"?watch=1&resourceVersion=5&fieldSelector=x&dryRun=All&token=t&timeoutSeconds=3",
		"Authorization", "Bearer mine", "Impersonate-User", "root", "X-Remote-User", "root", "Accept", "text/html", "Connection", "Upgrade", "Upgrade", "websocket", "Cookie", "of=another")
	if a.StatusCode != http.StatusOK || a.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%d %s", a.StatusCode, body)
	}
	asked, headers := u.take()
	if len(asked) != 1 || asked[0] != "GET "+readable[0]+"?resourceVersion=5&timeoutSeconds=3&watch=1" {
		t.Fatalf("the API server was asked %q", asked)
	}
	get(t, owner, http.MethodGet, r.origin+eventsPath+"?watch=1&fieldSelector=involvedObject.kind%3DSecret")
	if asked, _ := u.take(); len(asked) != 1 || asked[0] != "GET "+eventsPath+"?fieldSelector=involvedObject.kind%3DAPIService&limit=500" {
		t.Errorf("of Events the API server was asked %q", asked)
	}
	h := headers[0]
	if h.Get("Authorization") != "Bearer the-users-token" || h.Get("Accept") != "application/json" || h.Get("Cookie")+h.Get(tokenHeader)+h.Get("Impersonate-User")+h.Get("X-Remote-User")+h.Get("Upgrade") != "" {
		t.Errorf("with the headers %v", h)
	}
}

func TestAnswersOfTheAPIServer(t *testing.T) {
	u := newUpstream(t, empty)
	r := start(t, "--kubeconfig", u.kubeconfig(t))
	owner := r.owner(t)
	for name, c := range map[string]struct {
		answer func(w http.ResponseWriter, r *http.Request)
		code   int
		holds  string
	}{
		"a refusal": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `{"kind":"Status","message":"not for you"}`)
		}, http.StatusForbidden, "not for you"},
		"markup": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			_, _ = io.WriteString(w, "<script>alert(1)</script>")
		}, http.StatusBadGateway, "no JSON"},
		"markup with an error": {func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "<script>alert(1)</script>", http.StatusServiceUnavailable)
		}, http.StatusServiceUnavailable, "no JSON"},
		"a redirect": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "http://evil.test/")
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusFound)
		}, http.StatusBadGateway, "no JSON"},
		"a cookie": {func(w http.ResponseWriter, r *http.Request) {
			http.SetCookie(w, &http.Cookie{Name: "theirs", Value: "v"})
			w.Header().Set("Access-Control-Allow-Origin", "*")
			empty(w, r)
		}, http.StatusOK, "items"},
	} {
		u.mu.Lock()
		u.answer = c.answer
		u.mu.Unlock()
		a, body := get(t, owner, http.MethodGet, r.origin+readable[0])
		if a.StatusCode != c.code || !strings.Contains(body, c.holds) || strings.Contains(body, "<script") || a.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d %s %v", name, a.StatusCode, body, a.Header)
		}
		if len(a.Cookies()) > 0 || a.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: the headers are %v", name, a.Header)
		}
	}
	const longAgo = "Mon, 02 Jan 2006 15:04:05 GMT"
	u.mu.Lock()
	u.answer = func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", longAgo)
		empty(w, r)
	}
	u.mu.Unlock()
	if a, _ := get(t, owner, http.MethodGet, r.origin+readable[0]); a.Header.Get("Date") != longAgo {
		t.Errorf("the page is told the time %s, and not the API server's", a.Header.Get("Date"))
	}
	u.CloseClientConnections()
	u.Close()
	if a, body := get(t, owner, http.MethodGet, r.origin+readable[0]); a.StatusCode != http.StatusBadGateway || !strings.Contains(body, "cannot be reached") {
		t.Errorf("without an API server: %d %s", a.StatusCode, body)
	}
}

// A watch passes on each event when it comes, and ends with the command.
func TestAWatchIsPassedOnAtOnce(t *testing.T) {
	events := make(chan string)
	left := make(chan struct{})
	u := newUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("watch") == "" {
			empty(w, r)
			return
		}
		defer close(left)
		w.Header().Set("Content-Type", "application/json")
		for {
			select {
			case e := <-events:
				_, _ = io.WriteString(w, e+"\n")
				_ = http.NewResponseController(w).Flush()
			case <-r.Context().Done():
				return
			}
		}
	})
	r := start(t, "--kubeconfig", u.kubeconfig(t))
	owner := r.owner(t)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.origin+readable[0]+"?watch=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	go func() { events <- `{"n":1}` }()
	response, err := owner.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	for n, want := range []string{`{"n":1}`, `{"n":2}`} {
		if n > 0 {
			events <- want
		}
		if !lines.Scan() || lines.Text() != want {
			t.Fatalf("got %q, %v", lines.Text(), lines.Err())
		}
	}
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	select {
	case <-left:
	case <-time.After(patience):
		t.Error("the watch goes on without the command")
	}
}

func TestWhatKeepsItFromStarting(t *testing.T) {
	u := newUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Unauthorized","code":401}`)
	})
	known := u.kubeconfig(t)
	website := newUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "<html>welcome</html>")
	})
	failing := newUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = io.WriteString(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"InternalError","message":"etcd is down","code":500}`)
	})
	gone := newUpstream(t, empty)
	dead := gone.kubeconfig(t)
	gone.Close()
	busy := start(t, "--kubeconfig", newUpstream(t, empty).kubeconfig(t))
	_, port, _ := strings.Cut(strings.TrimPrefix(busy.origin, "http://"), ":")
	for name, c := range map[string]struct {
		args  []string
		holds string
	}{
		"no kubeconfig":    {[]string{"--kubeconfig", filepath.Join(t.TempDir(), "none")}, "no kubeconfig"},
		"nobody listens":   {[]string{"--kubeconfig", dead}, "cannot be reached"},
		"not known":        {[]string{"--kubeconfig", known}, "log in again"},
		"a port in use":    {[]string{"--kubeconfig", newUpstream(t, empty).kubeconfig(t), "--port", port}, "--port=0"},
		"no port":          {[]string{"--port", "65536"}, "between 0 and 65535"},
		"an argument":      {[]string{"v1.a"}, "unexpected argument"},
		"an unknown place": {[]string{"--kubeconfig", known, "--context", "ther"}, "there"},
		"a failure":        {[]string{"--kubeconfig", failing.kubeconfig(t)}, "etcd is down"},
		"a web server":     {[]string{"--kubeconfig", website.kubeconfig(t)}, "no list of APIServices"},
	} {
		cmd := New(terminal.IO{Out: io.Discard, Err: io.Discard})
		cmd.SetArgs(c.args)
		cmd.SetOut(io.Discard)
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		err := cmd.ExecuteContext(ctx)
		cancel()
		if err == nil || !strings.Contains(err.Error(), c.holds) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left") }

// Nobody could open the page.
func TestAnAddressThatCannotBeWritten(t *testing.T) {
	cmd := New(terminal.IO{Out: full{}, Err: io.Discard})
	cmd.SetArgs([]string{"--kubeconfig", newUpstream(t, empty).kubeconfig(t)})
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := cmd.ExecuteContext(ctx); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("it ended with %v", err)
	}
}

// Browsers leave out the port that http has by itself.
func TestThePortOfHTTP(t *testing.T) {
	for port, code := range map[int]int{80: http.StatusFound, 8080: http.StatusMisdirectedRequest} {
		r := httptest.NewRequest(http.MethodGet, "http://127.0.0.1/", nil)
		w := httptest.NewRecorder()
		newDoor(port).ServeHTTP(w, r)
		if w.Code != code {
			t.Errorf("at port %d: %d", port, w.Code)
		}
	}
}

// Of a server that has neither resource there is nothing to show.
func TestAServerWithoutAPIServices(t *testing.T) {
	u := newUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404}`)
	})
	cmd := New(terminal.IO{Out: io.Discard, Err: io.Discard})
	cmd.SetArgs([]string{"--kubeconfig", u.kubeconfig(t)})
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	if err := cmd.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), "list APIServices") {
		t.Errorf("an API server without APIServices: %v", err)
	}
	if asked, _ := u.take(); len(asked) != 2 {
		t.Errorf("it was asked %q", asked)
	}
}

func TestTheSecretIsNoArgument(t *testing.T) {
	if runtime.GOOS == "windows" || runtime.GOOS == "darwin" {
		t.Skip("the command that stands in for the browser is called xdg-open")
	}
	dir := t.TempDir()
	told := filepath.Join(dir, "told")
	// The file is read at once, as it goes with the command; the rename makes it whole for who waits.
	script := fmt.Sprintf("#!/bin/sh\n{ echo \"$@\"; stat -c %%a \"$1\"; cat \"$1\"; } >%[1]s.part\nmv %[1]s.part %[1]s\n", told)
	if err := os.WriteFile(filepath.Join(dir, "xdg-open"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	t.Setenv("XDG_CACHE_HOME", filepath.Join(dir, "cache"))
	r := start(t, "--open", "--kubeconfig", newUpstream(t, empty).kubeconfig(t))
	var text string
	deadline := time.After(patience)
	for tick := time.NewTicker(10 * time.Millisecond); text == ""; {
		select {
		case <-tick.C:
			content, _ := os.ReadFile(told)
			text = string(content)
		case <-deadline:
			t.Fatalf("no browser was opened: %s", r.err)
		}
	}
	argument, rest, _ := strings.Cut(text, "\n")
	mode, page, _ := strings.Cut(rest, "\n")
	if strings.Contains(argument, r.token()) || !strings.HasPrefix(argument, filepath.Join(dir, "cache", "annex")) {
		t.Errorf("the browser was called with %q", argument)
	}
	if mode != "600" || !strings.Contains(page, r.address) {
		t.Errorf("the file has mode %s and holds %q", mode, page)
	}
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(argument); !os.IsNotExist(err) {
		t.Errorf("%s is left: %v", argument, err)
	}

	t.Setenv("PATH", t.TempDir())
	none := start(t, "--open", "--kubeconfig", newUpstream(t, empty).kubeconfig(t))
	if err := none.stop(); err != nil || !strings.Contains(none.err.String(), "Open the address above") {
		t.Errorf("without a browser: %v, %s", err, none.err)
	}
}
