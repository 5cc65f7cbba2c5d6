package status

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	discoveryclient "k8s.io/client-go/kubernetes/typed/discovery/v1"
	"k8s.io/client-go/rest"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	apiregistration "k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset/typed/apiregistration/v1"

	"github.com/annex-api/annex/apis/aggregation/v1alpha1"
	"github.com/annex-api/annex/extension"
	"github.com/annex-api/annex/extension/extensiontest"
	"github.com/annex-api/annex/internal/cli/kubeconfig"
	"github.com/annex-api/annex/internal/cli/terminal"
)

// waitLimit bounds every wait.
const waitLimit = time.Minute

// seen is what a command writes while it runs.
type seen struct {
	mu     sync.Mutex
	text   bytes.Buffer
	notify chan struct{}
}

func newSeen() *seen { return &seen{notify: make(chan struct{}, 1)} }

func (s *seen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text.Write(p)
	select {
	case s.notify <- struct{}{}:
	default:
	}
	return len(p), nil
}

func (s *seen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// until waits until what was written is as wanted.
func (s *seen) until(t *testing.T, what string, ok func(text string) bool) {
	t.Helper()
	timer := time.NewTimer(waitLimit)
	defer timer.Stop()
	for !ok(s.String()) {
		select {
		case <-s.notify:
		case <-timer.C:
			t.Fatalf("%s is not written:\n%s", what, s)
		}
	}
}

func (s *seen) untilLine(t *testing.T, pattern string) {
	t.Helper()
	s.until(t, pattern, regexp.MustCompile("(?m)"+pattern).MatchString)
}

// watching runs the command with -w until the test ends, or stop is called.
func watching(t *testing.T, connect func() (*kubeconfig.Connection, error), change func(*Options), args ...string) (out, errs *seen, stop func()) {
	t.Helper()
	out, errs = newSeen(), newSeen()
	o := &Options{IO: terminal.IO{Out: out, Err: errs}, now: time.Now, connect: connect}
	o.display.size = func() (int, int) { return 0, 0 }
	if change != nil {
		change(o)
	}
	cmd := command("annex", o)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(append(args, "-w"))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- cmd.ExecuteContext(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("it ended with %v", err)
			}
		case <-time.After(waitLimit):
			t.Error("it does not end")
		}
	})
	t.Cleanup(stop)
	return out, errs, stop
}

// observed is a server on the SDK that has what a test says.
type observed struct {
	mu      sync.Mutex
	items   []v1alpha1.RemoteAPIService
	changed chan struct{}
	running *extensiontest.Running
}

func observe(t testing.TB, items []v1alpha1.RemoteAPIService) *observed {
	o := &observed{items: items, changed: make(chan struct{}, 1)}
	o.running = extensiontest.Start(t, nil, extension.Computed[v1alpha1.RemoteAPIService]{
		GroupVersion: v1alpha1.GroupVersion,
		Scope:        extension.Cluster,
		List: func(context.Context) ([]v1alpha1.RemoteAPIService, error) {
			o.mu.Lock()
			defer o.mu.Unlock()
			var all []v1alpha1.RemoteAPIService
			for i := range o.items {
				all = append(all, *o.items[i].DeepCopy())
			}
			return all, nil
		},
		Changed: o.changed,
	})
	return o
}

func (o *observed) set(change func([]v1alpha1.RemoteAPIService) []v1alpha1.RemoteAPIService) {
	o.mu.Lock()
	o.items = change(o.items)
	o.mu.Unlock()
	o.changed <- struct{}{}
}

func (o *observed) connect() (*kubeconfig.Connection, error) {
	return &kubeconfig.Connection{Config: rest.CopyConfig(o.running.Config), Server: "https://test"}, nil
}

func TestWatchAppendsWhatChanges(t *testing.T) {
	server := observe(t, some())
	out, _, stop := watching(t, server.connect, nil)
	out.untilLine(t, `^v1beta1\.metrics\.k8s\.io .* Healthy `)
	first := out.String()
	if strings.Count(first, "\n") != 5 {
		t.Fatalf("at first it writes\n%s", first)
	}
	server.set(func(all []v1alpha1.RemoteAPIService) []v1alpha1.RemoteAPIService {
		all[0].Status.State, all[0].Status.Reason, all[0].Status.EndpointSummary = v1alpha1.Degraded, "EndpointEjected", "1/2"
		// What the table does not show makes no line.
		all[1].Status.Limits.InFlight++
		return all
	})
	out.untilLine(t, `^v1beta1\.metrics\.k8s\.io +kube-system/metrics-server:443 +Degraded +EndpointEjected +1/2 `)
	server.set(func(all []v1alpha1.RemoteAPIService) []v1alpha1.RemoteAPIService {
		added := some()[0]
		added.Name = "v1.added.example.com"
		return append(all[:3], added)
	})
	out.untilLine(t, `^v1\.new\.example\.com .* Deleted `)
	out.untilLine(t, `^v1\.added\.example\.com .* Healthy `)
	stop()
	if rest := strings.TrimPrefix(out.String(), first); strings.Count(rest, "\n") != 3 || strings.Contains(rest, "NAME") || strings.Contains(rest, "v1.apps.example.com") {
		t.Errorf("then it writes\n%s", rest)
	}
}

func TestRowsThatAreAppendedStandBelowEachOther(t *testing.T) {
	server := observe(t, some()[:1])
	out, _, _ := watching(t, server.connect, nil)
	out.untilLine(t, `^v1beta1\.metrics\.k8s\.io .* Healthy `)
	become := func(state v1alpha1.State, reason, endpoints string) string {
		server.set(func(all []v1alpha1.RemoteAPIService) []v1alpha1.RemoteAPIService {
			all[0].Status.State, all[0].Status.Reason, all[0].Status.EndpointSummary = state, reason, endpoints
			return all
		})
		pattern := `(?m)^.* ` + string(state) + ` .* ` + endpoints + ` .*$`
		out.untilLine(t, pattern)
		return regexp.MustCompile(pattern).FindString(out.String())
	}
	wide := become(v1alpha1.Unavailable, "FailedDiscoveryCheck", "0/2")
	narrow := become(v1alpha1.Degraded, "EndpointEjected", "1/2")
	if strings.Index(wide, "0/2") != strings.Index(narrow, "1/2") {
		t.Errorf("columns do not stand below each other:\n%s", out)
	}
}

func TestWatchOfAState(t *testing.T) {
	server := observe(t, some())
	out, _, _ := watching(t, server.connect, nil, "--state", "unhealthy", "-o", "name")
	out.untilLine(t, `^apiservice\.apiregistration\.k8s\.io/v1alpha1\.orders\.example\.com$`)
	if strings.Contains(out.String(), "metrics") {
		t.Errorf("it shows what is healthy: %s", out)
	}
	server.set(func(all []v1alpha1.RemoteAPIService) []v1alpha1.RemoteAPIService {
		all[0].Status.State, all[0].Status.Since = v1alpha1.Unavailable, metav1.Now()
		return all
	})
	out.untilLine(t, `^apiservice\.apiregistration\.k8s\.io/v1beta1\.metrics\.k8s\.io$`)
}

func TestWatchOfDocuments(t *testing.T) {
	server := observe(t, some()[:1])
	out, _, _ := watching(t, server.connect, nil, "-o", "yaml")
	out.untilLine(t, `^  watchList: Works$`)
	server.set(func(all []v1alpha1.RemoteAPIService) []v1alpha1.RemoteAPIService {
		all[0].Status.WatchList = "Missing"
		return all
	})
	out.untilLine(t, `^  watchList: Missing$`)
	if n := strings.Count(out.String(), "---\n"); n != 2 {
		t.Errorf("there are %d documents:\n%s", n, out)
	}
}

// screen does what a terminal does with what is written to it.
type screen struct {
	mu         sync.Mutex
	rows       [][]rune
	row, col   int
	other      bool
	lastScreen []string // of the other screen, when it was left
	written    int
	trouble    string
}

var sequence = regexp.MustCompile(`^\x1b\[(\??)([0-9;]*)([A-Za-z])`)

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.written += len(p)
	for text := string(p); text != ""; {
		if m := sequence.FindStringSubmatch(text); m != nil {
			text = text[len(m[0]):]
			switch m[1] + m[3] {
			case "?h":
				s.other = true
			case "?l":
				s.other, s.lastScreen = false, s.lines()
				s.rows, s.row, s.col = nil, 0, 0
			case "J":
				s.rows = nil
			case "K":
				if s.row < len(s.rows) {
					s.rows[s.row] = s.rows[s.row][:min(s.col, len(s.rows[s.row]))]
				}
			case "H":
				s.row, s.col = 0, 0
				row, _, _ := strings.Cut(m[2], ";")
				if n, err := strconv.Atoi(row); err == nil {
					s.row = n - 1
				}
			case "m":
			default:
				s.trouble = fmt.Sprintf("an unknown sequence %q", m[0])
			}
			continue
		}
		r := []rune(text)[0]
		text = text[len(string(r)):]
		switch r {
		case '\n':
			s.row, s.col = s.row+1, 0
			continue
		case '\x1b':
			s.trouble = "half a sequence"
		}
		for len(s.rows) <= s.row {
			s.rows = append(s.rows, nil)
		}
		for len(s.rows[s.row]) <= s.col {
			s.rows[s.row] = append(s.rows[s.row], ' ')
		}
		s.rows[s.row][s.col] = r
		s.col++
	}
	return len(p), nil
}

func (s *screen) lines() []string {
	var lines []string
	for _, row := range s.rows {
		lines = append(lines, strings.TrimRight(string(row), " "))
	}
	return lines
}

// see waits until the other screen is as wanted.
func (s *screen) see(t *testing.T, out *seen, what string, ok func(lines []string) bool) {
	t.Helper()
	out.until(t, what, func(string) bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return ok(s.lines())
	})
}

func TestWatchOnATerminalRedrawsWhatChanges(t *testing.T) {
	items := some()
	for i := range items {
		items[i].Status.Since = metav1.Time{} // the time that passes changes rows, too
	}
	server := observe(t, items)
	shot := &screen{}
	var columns atomic.Int64
	columns.Store(100)
	out, errs, stop := watching(t, server.connect, func(o *Options) {
		o.display.terminal, o.display.colour = true, true
		o.display.size = func() (int, int) { return int(columns.Load()), 5 }
		o.IO.Out = io.MultiWriter(shot, o.IO.Out)
	})
	row := func(lines []string, n int, pattern string) bool {
		return n < len(lines) && regexp.MustCompile(pattern).MatchString(lines[n])
	}
	// Of four rows there is room for three: the gravest.
	shot.see(t, out, "the first picture", func(lines []string) bool {
		return len(lines) == 5 && row(lines, 1, "^v1alpha1.orders.* ✗ Unavailable ") && row(lines, 3, "^v1.apps.* ! Degraded ") &&
			lines[4] == "and 1 more; 4 APIServices: 1 unavailable, 1 unknown, 1 degraded, 1 healthy."
	})
	before := len(out.String())
	server.set(func(all []v1alpha1.RemoteAPIService) []v1alpha1.RemoteAPIService {
		all[1].Status.EndpointSummary = "1/3"
		return all
	})
	shot.see(t, out, "the changed row", func(lines []string) bool { return row(lines, 3, "^v1.apps.* 1/3 ") })
	change := out.String()[before:]
	if strings.Contains(change, "orders") || strings.Contains(change, "NAME") || strings.Contains(change, "metrics") {
		t.Errorf("to change one row it writes %q", change)
	}
	server.set(func(all []v1alpha1.RemoteAPIService) []v1alpha1.RemoteAPIService {
		all[0].Status.State, all[0].Status.Reason = v1alpha1.Unavailable, "ServiceNotFound"
		return all
	})
	shot.see(t, out, "the row that comes in", func(lines []string) bool { return row(lines, 2, "^v1beta1.metrics.* ✗ Unavailable ") })
	columns.Store(40)
	shot.see(t, out, "the narrow picture", func(lines []string) bool {
		for _, line := range lines {
			if terminal.Width(line) > 40 {
				return false
			}
		}
		return row(lines, 1, "✗ Unavailable$")
	})
	stop()
	shot.mu.Lock()
	defer shot.mu.Unlock()
	if shot.trouble != "" || shot.other {
		t.Errorf("it leaves the terminal with %s on the other screen %v", shot.trouble, shot.other)
	}
	if lines := shot.lines(); len(lines) != 5 || !strings.HasPrefix(lines[0], "NAME") || !strings.HasPrefix(lines[4], "v1.apps") {
		t.Errorf("at last there is %q", lines)
	}
	if errs.String() != "" {
		t.Errorf("beside it says %q", errs)
	}
}

func TestWatchOnATerminalThatCannotDraw(t *testing.T) {
	server := observe(t, some())
	out, _, stop := watching(t, server.connect, func(o *Options) {
		o.display.terminal, o.display.fixed = true, true
		o.display.size = func() (int, int) { return 80, 24 }
	})
	out.untilLine(t, `^v1beta1\.metrics\.k8s\.io .* ✓ Healthy `)
	stop()
	if strings.Contains(out.String(), "\x1b") {
		t.Errorf("it writes %q", out)
	}
}

// TestWatchElsewhere has a server on the SDK stand in for an API server that is not Annex: it stores
// APIServices and EndpointSlices.
func TestWatchElsewhere(t *testing.T) {
	running := extensiontest.Start(t, nil,
		extension.Resource[apiregistrationv1.APIService, apiregistrationv1.APIServiceList]{GroupVersion: apiregistrationv1.SchemeGroupVersion, Scope: extension.Cluster},
		extension.Resource[discoveryv1.EndpointSlice, discoveryv1.EndpointSliceList]{GroupVersion: discoveryv1.SchemeGroupVersion},
	)
	services, err := apiregistration.NewForConfig(running.Config)
	if err != nil {
		t.Fatal(err)
	}
	endpoints, err := discoveryclient.NewForConfig(running.Config)
	if err != nil {
		t.Fatal(err)
	}
	local, slices := locals()
	for i := range slices {
		slices[i].AddressType = discoveryv1.AddressTypeIPv4
		if _, err := endpoints.EndpointSlices(slices[i].Namespace).Create(t.Context(), &slices[i], metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range local[:3] {
		if _, err := services.APIServices().Create(t.Context(), &local[i], metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	out, errs, _ := watching(t, func() (*kubeconfig.Connection, error) {
		return &kubeconfig.Connection{Config: rest.CopyConfig(running.Config), Server: "https://test"}, nil
	}, nil)
	out.untilLine(t, `^v1beta1\.metrics\.k8s\.io +kube-system/metrics-server:443 +\S+ +\S+ +1/2 `)
	if !strings.Contains(errs.String(), "is not Annex") || strings.Contains(out.String(), "v1.apps ") {
		t.Errorf("it writes\n%s%s", errs, out)
	}
	if _, err := services.APIServices().Create(t.Context(), &local[3], metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	out.untilLine(t, `^v1\.new\.example\.com +shop/new:443 +Unknown +- +0/0 `)
	// What becomes local has no extension server any more.
	patch := []byte(`{"spec":{"service":null}}`)
	if _, err := services.APIServices().Patch(t.Context(), local[1].Name, "application/merge-patch+json", patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	out.untilLine(t, `^v1beta1\.metrics\.k8s\.io .* Deleted `)
	if err := services.APIServices().Delete(t.Context(), local[3].Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	out.untilLine(t, `^v1\.new\.example\.com .* Deleted `)
}

// TestWatchGoesOnAfterAnOutage loses the API server, and lists anew when it is back.
func TestWatchGoesOnAfterAnOutage(t *testing.T) {
	var down atomic.Bool
	f := &fake{remote: some()}
	var mu sync.Mutex
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case down.Load() && r.URL.Query().Get("watch") != "":
			panic(http.ErrAbortHandler)
		case down.Load():
			(&fake{answers: map[string]refusal{remotePath: {503, metav1.StatusReasonServiceUnavailable}}}).ServeHTTP(w, r)
		case r.URL.Query().Get("watch") != "":
			(&fake{answers: map[string]refusal{remotePath: {410, metav1.StatusReasonExpired}}}).ServeHTTP(w, r)
		default:
			mu.Lock()
			defer mu.Unlock()
			f.ServeHTTP(w, r)
		}
	}))
	defer s.Close()
	out, errs, stop := watching(t, func() (*kubeconfig.Connection, error) {
		return (&kubeconfig.Flags{Server: s.URL}).Connect("status")
	}, nil)
	out.untilLine(t, `^v1beta1\.metrics\.k8s\.io .* Healthy `)
	down.Store(true)
	errs.untilLine(t, `cannot watch APIServices: `)
	mu.Lock()
	f.remote = f.remote[1:]
	mu.Unlock()
	down.Store(false)
	errs.untilLine(t, `^The API server answers again\.$`)
	out.untilLine(t, `^v1beta1\.metrics\.k8s\.io .* Deleted `)
	stop()
	if n := strings.Count(errs.String(), "cannot watch"); n != 1 {
		t.Errorf("it tells of one outage %d times", n)
	}
}
