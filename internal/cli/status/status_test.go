package status

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/yaml"

	"github.com/annex-api/annex/apis/aggregation/v1alpha1"
	"github.com/annex-api/annex/internal/cli/terminal"
)

var rewrite = flag.Bool("update", false, "write what the command prints to testdata")

// golden compares with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *rewrite {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}

// locals are APIServices as any API server has them, and the endpoints of their Services.
func locals() ([]apiregistrationv1.APIService, []discoveryv1.EndpointSlice) {
	of := func(name, namespace, service string, status apiregistrationv1.ConditionStatus, reason, message string) apiregistrationv1.APIService {
		version, group, _ := strings.Cut(name, ".")
		a := apiregistrationv1.APIService{ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: ago(72 * time.Hour)}}
		a.Spec = apiregistrationv1.APIServiceSpec{Group: group, Version: version}
		if service != "" {
			a.Spec.Service = &apiregistrationv1.ServiceReference{Namespace: namespace, Name: service, Port: ptr.To[int32](443)}
		}
		if status != "" {
			a.Status.Conditions = []apiregistrationv1.APIServiceCondition{{
				Type: apiregistrationv1.Available, Status: status, Reason: reason, Message: message, LastTransitionTime: ago(5 * time.Minute),
			}}
		}
		return a
	}
	slice := func(namespace, service, name string, endpoints ...discoveryv1.Endpoint) discoveryv1.EndpointSlice {
		return discoveryv1.EndpointSlice{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: service}},
			Ports:      []discoveryv1.EndpointPort{{Port: ptr.To[int32](8443)}}, Endpoints: endpoints,
		}
	}
	at := func(address string, ready, terminating bool) discoveryv1.Endpoint {
		return discoveryv1.Endpoint{Addresses: []string{address}, Conditions: discoveryv1.EndpointConditions{Ready: &ready, Terminating: &terminating}, Zone: ptr.To("a"), NodeName: ptr.To("n1")}
	}
	services := []apiregistrationv1.APIService{
		of("v1.apps", "", "", apiregistrationv1.ConditionTrue, "Local", "Local APIServices are always available"),
		of("v1beta1.metrics.k8s.io", "kube-system", "metrics-server", apiregistrationv1.ConditionTrue, "Passed", "all checks passed"),
		of("v1.orders.example.com", "shop", "orders", apiregistrationv1.ConditionFalse, "MissingEndpoints", "endpoints for service/orders in \"shop\" have no addresses with port name \"\""),
		of("v1.new.example.com", "shop", "new", "", "", ""),
	}
	slices := []discoveryv1.EndpointSlice{
		slice("kube-system", "metrics-server", "a", at("10.0.0.1", true, false), at("10.0.0.2", false, true)),
		slice("kube-system", "metrics-server", "b", at("10.0.0.1", true, false), at("10.0.0.3", false, false)),
	}
	return services, slices
}

func plainServer() *fake {
	f := &fake{}
	f.local, f.slices = locals()
	return f
}

func TestFormats(t *testing.T) {
	for name, c := range map[string]struct {
		server func() *fake
		screen [2]int
		colour bool
		args   []string
	}{
		"table":             {},
		"wide":              {args: []string{"-o", "wide"}},
		"json":              {args: []string{"-o", "json"}},
		"json-one":          {args: []string{"-o", "json", "v1alpha1.orders.example.com"}},
		"yaml":              {args: []string{"-o", "yaml", "v1.apps.example.com", "v1.new.example.com"}},
		"name":              {args: []string{"-o", "name"}},
		"no-headers":        {args: []string{"--no-headers"}},
		"unhealthy":         {args: []string{"--state", "unhealthy"}},
		"two-states":        {args: []string{"--state", "Unavailable,unknown"}},
		"terminal":          {screen: [2]int{200, 50}},
		"terminal-colour":   {screen: [2]int{200, 50}, colour: true},
		"terminal-100":      {screen: [2]int{100, 50}},
		"terminal-80":       {screen: [2]int{80, 50}},
		"terminal-80-wide":  {screen: [2]int{80, 50}, args: []string{"-o", "wide"}},
		"terminal-40":       {screen: [2]int{40, 50}},
		"terminal-40-wide":  {screen: [2]int{40, 50}, args: []string{"-o", "wide"}},
		"terminal-20":       {screen: [2]int{20, 50}},
		"plain-table":       {server: plainServer},
		"plain-wide":        {server: plainServer, args: []string{"-o", "wide"}},
		"plain-yaml":        {server: plainServer, args: []string{"-o", "yaml", "v1beta1.metrics.k8s.io"}},
		"plain-terminal-60": {server: plainServer, screen: [2]int{60, 50}},
		"plain-no-endpoints": {server: func() *fake {
			f := plainServer()
			f.answers = map[string]refusal{"/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices": {403, metav1.StatusReasonForbidden}}
			return f
		}},
	} {
		t.Run(name, func(t *testing.T) {
			server := &fake{remote: some()}
			if c.server != nil {
				server = c.server()
			}
			s := httptest.NewServer(server)
			defer s.Close()
			got := runAt(t, t.Context(), func(o *Options) { o.display.colour = c.colour }, c.screen, append(c.args, "--server", s.URL)...)
			if got.code != 0 {
				t.Errorf("it ended with %d", got.code)
			}
			text := strings.ReplaceAll(got.out, s.URL, "http://API-SERVER")
			if got.err != "" {
				text += "--- standard error ---\n" + got.err
			}
			golden(t, name+".txt", text)
			if c.screen[0] == 0 && strings.Contains(got.out, "\x1b") {
				t.Error("there are escape codes outside of a terminal")
			}
			for line := range strings.Lines(got.out) {
				for _, code := range []string{"\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[35m", reset} {
					line = strings.ReplaceAll(line, code, "")
				}
				if line = strings.TrimSuffix(line, "\n"); c.screen[0] > 0 && terminal.Width(line) > c.screen[0] {
					t.Errorf("%q is wider than the terminal", line)
				}
			}
		})
	}
}

// Documents are read by programs as what they are, also from another API server.
func TestDocumentsAreRead(t *testing.T) {
	for _, server := range []*fake{{remote: some()}, plainServer()} {
		for _, format := range []string{"json", "yaml"} {
			got := run(t, t.Context(), server, [2]int{}, "-o", format)
			var list v1alpha1.RemoteAPIServiceList
			if err := yaml.UnmarshalStrict([]byte(got.out), &list); err != nil {
				t.Fatal(err)
			}
			if len(list.Items) < 3 || list.Kind != "RemoteAPIServiceList" || list.Items[0].Kind != "RemoteAPIService" || list.Items[0].Status.State == "" {
				t.Errorf("%s: got %+v", format, list)
			}
		}
	}
}

func TestNamesThatAreNotThere(t *testing.T) {
	for _, c := range []struct {
		names     []string
		code      int
		out, errs string
	}{
		{[]string{"v1.app.example.com"}, 1, "", `no APIService "v1.app.example.com" has an extension server; did you mean v1.apps.example.com`},
		{[]string{"orders", "v1.apps.example.com"}, 1, "v1.apps.example.com", "did you mean v1alpha1.orders.example.com?"},
		{[]string{"v1\x1b[31m"}, 1, "", `no APIService "v1�[31m" has an extension server; "kubectl get apiservices" lists all`},
	} {
		got := run(t, t.Context(), &fake{remote: some()}, [2]int{}, c.names...)
		if got.code != c.code || (c.out == "") != (got.out == "") || !strings.Contains(got.out, c.out) || !strings.Contains(got.err, c.errs) {
			t.Errorf("%q: got %+v", c.names, got)
		}
	}
	many := make([]string, 100)
	for i := range many {
		many[i] = fmt.Sprintf("none-%d", i)
	}
	if got := run(t, t.Context(), &fake{remote: some()}, [2]int{}, many...); strings.Count(got.err, "no APIService") != maxMissing {
		t.Errorf("of many names that are not there it says %s", got.err)
	}
}

func TestNothingToShow(t *testing.T) {
	none := &fake{remote: []v1alpha1.RemoteAPIService{}}
	for _, c := range []struct {
		server *fake
		args   []string
		want   string
	}{
		{none, nil, "No APIService has an extension server.\n"},
		{none, []string{"-l", "a=b"}, "No APIService with an extension server has such labels.\n"},
		{&fake{remote: some()[:1]}, []string{"--state", "unhealthy"}, "No APIService with an extension server is as asked for.\n"},
	} {
		if got := run(t, t.Context(), c.server, [2]int{}, c.args...); got != (ran{err: c.want}) {
			t.Errorf("%v: got %+v", c.args, got)
		}
	}
	if got := run(t, t.Context(), none, [2]int{}, "-o", "json"); !json.Valid([]byte(got.out)) || !strings.Contains(got.out, `"items": []`) {
		t.Errorf("got %+v", got)
	}
}

func TestWhoMayNotReadWhatAnnexSees(t *testing.T) {
	f := plainServer()
	f.remote = some()
	f.answers = map[string]refusal{remotePath: {403, metav1.StatusReasonForbidden}}
	got := run(t, t.Context(), f, [2]int{})
	if got.code != 0 || !strings.Contains(got.err, "Less is shown: what Annex sees cannot be read (it is Forbidden).") || !strings.Contains(got.out, "v1.orders.example.com") {
		t.Errorf("on Annex: got %+v", got)
	}
	f.remote = nil // another API server says no before it says that there is nothing
	got = run(t, t.Context(), f, [2]int{})
	if got.code != 0 || !strings.Contains(got.err, "This API server is not Annex") {
		t.Errorf("elsewhere: got %+v", got)
	}
	f.answers[localPath] = refusal{403, metav1.StatusReasonForbidden}
	got = run(t, t.Context(), f, [2]int{})
	if got.code != 2 || got.out != "" || !strings.Contains(got.err, "forbids it to you") {
		t.Errorf("without any right: got %+v", got)
	}
	got = run(t, t.Context(), &fake{answers: map[string]refusal{remotePath: {401, metav1.StatusReasonUnauthorized}}}, [2]int{})
	if got.code != 2 || !strings.Contains(got.err, "refuses the credentials") {
		t.Errorf("as nobody: got %+v", got)
	}
	f = plainServer()
	f.remote = some()
	f.answers = map[string]refusal{remotePath: {503, metav1.StatusReasonServiceUnavailable}}
	got = run(t, t.Context(), f, [2]int{})
	if got.code != 0 || !strings.Contains(got.err, "Less is shown") || !strings.Contains(got.out, "v1.orders.example.com") {
		t.Errorf("while Annex begins: got %+v", got)
	}
}

// What comes from others cannot move the cursor, colour, or break lines.
func TestHostileTexts(t *testing.T) {
	evil := "\x1b[2J\x1b]0;pwned\x07<script>\r\nv1.fake Healthy\u202e\u009b31m\x00\x7f\U000e0041" + strings.Repeat("x", 2000)
	long := evil + strings.Repeat("\x1b[5m", 1<<20)
	all := some()
	for i := range all {
		all[i].Status.Message, all[i].Status.Reason, all[i].Status.Service = evil, evil, evil
		all[i].Status.EndpointSummary, all[i].Status.State = evil, v1alpha1.State(evil)
		all[i].Name += evil
	}
	local, endpoints := locals()
	for i := range local {
		local[i].Name += evil
		for j := range local[i].Status.Conditions {
			local[i].Status.Conditions[j].Message, local[i].Status.Conditions[j].Reason = evil, evil
		}
	}
	for name, server := range map[string]*fake{"annex": {remote: all}, "plain": {local: local, slices: endpoints}} {
		for _, screen := range [][2]int{{}, {40, 10}, {120, 40}} {
			// Once is enough for what takes long.
			all[0].Status.Message, local[2].Status.Conditions[0].Message = evil, evil
			if screen[0] == 0 {
				all[0].Status.Message, local[2].Status.Conditions[0].Message = long, long
			}
			for _, output := range []string{"", "wide", "name", "json", "yaml"} {
				got := run(t, t.Context(), server, screen, "-o", output)
				if got.code != 0 {
					t.Fatalf("%s: -o %s ended with %d: %.300s", name, output, got.code, got.err)
				}
				text := got.out + got.err
				if i := strings.IndexFunc(text, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }); i >= 0 {
					t.Errorf("%s: -o %s on %v prints %q", name, output, screen, text[i:min(i+20, len(text))])
				}
				if table := output == "" || output == "wide"; table && (len(got.out) > 20_000 || strings.Count(got.out, "\n") != 1+len(all)-strings.Count(name, "plain")) {
					t.Errorf("%s: -o %s on %v prints %d bytes and %d lines", name, output, screen, len(got.out), strings.Count(got.out, "\n"))
				}
				if output == "json" || output == "yaml" {
					var list v1alpha1.RemoteAPIServiceList
					read := func(b []byte, into any) error { return yaml.Unmarshal(b, into) }
					if output == "json" {
						read = json.Unmarshal
					}
					if err := read([]byte(got.out), &list); err != nil {
						t.Fatalf("%s: -o %s: %v", name, output, err)
					}
					if !strings.HasSuffix(list.Items[0].Name, evil) {
						t.Errorf("%s: -o %s changes the name to %.60q", name, output, list.Items[0].Name)
					}
				}
			}
		}
	}
}

func TestTwoThousandComeInPages(t *testing.T) {
	f := &fake{remote: []v1alpha1.RemoteAPIService{}}
	for i := range 2000 {
		item := some()[i%4]
		item.Name = fmt.Sprintf("v1.g%04d.example.com", i)
		f.remote = append(f.remote, item)
	}
	got := run(t, t.Context(), f, [2]int{120, 40})
	if n := strings.Count(got.out, "\n"); n != 2001 || got.code != 0 {
		t.Errorf("it printed %d lines and ended with %d", n, got.code)
	}
	if n := f.requests(remotePath); n != 4 {
		t.Errorf("it asked for %d pages", n)
	}
	if !strings.Contains(got.err, "2000 APIServices: 500 unavailable, 500 unknown, 500 degraded, 500 healthy.") || !strings.Contains(got.err, "annex doctor v1.g0002.example.com") {
		t.Errorf("it said %q", got.err)
	}
}

func TestClocksThatDiffer(t *testing.T) {
	f := &fake{remote: some(), date: today.Add(24 * time.Hour)}
	for i := range f.remote {
		f.remote[i].Status.Since = metav1.NewTime(f.date.Add(-90 * time.Second))
	}
	got := run(t, t.Context(), f, [2]int{})
	if !strings.Contains(got.out, "90s") || got.err != "This machine's clock is 24h behind the API server's; times are told by the API server's.\n" {
		t.Errorf("a day behind: got %+v", got)
	}
	f.date = today.Add(-24 * time.Hour)
	got = run(t, t.Context(), f, [2]int{})
	if !strings.Contains(got.err, "24h ahead of") || !strings.Contains(got.out, "0s") {
		t.Errorf("a day ahead, and what is in the future: got %+v", got)
	}
}

func TestAListThatExpiresBeginsAgainOnce(t *testing.T) {
	requests := 0
	expired := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests++
		if r.URL.Query().Get("continue") != "" {
			(&fake{answers: map[string]refusal{remotePath: {410, metav1.StatusReasonExpired}}}).ServeHTTP(w, r)
			return
		}
		all := make([]v1alpha1.RemoteAPIService, pageSize+1)
		(&fake{remote: all}).ServeHTTP(w, r)
	})
	got := run(t, t.Context(), expired, [2]int{})
	if requests != 6 || !strings.Contains(got.err, "cannot be read (it is Expired)") {
		t.Errorf("it asked %d times, and got %+v", requests, got)
	}
}

func TestInterruptIsNoErrorOfAWatchAlone(t *testing.T) {
	for _, flag := range []string{"-w", "-o=json"} {
		ctx, cancel := context.WithCancel(t.Context())
		hang := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			cancel()
			<-r.Context().Done()
		})
		got := run(t, ctx, hang, [2]int{}, flag)
		if flag == "-w" && got != (ran{}) {
			t.Errorf("of a watch: %+v", got)
		}
		// A script must not take it for an empty list.
		if flag != "-w" && (got.code != couldNotAsk || got.out != "" || !strings.HasPrefix(got.err, "stopped before http://127.0.0.1:")) {
			t.Errorf("of a list: %+v", got)
		}
	}
}
