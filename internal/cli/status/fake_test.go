package status

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/annex-api/annex/apis/aggregation/v1alpha1"
	"github.com/annex-api/annex/internal/cli/kubeconfig"
	"github.com/annex-api/annex/internal/cli/terminal"
)

// today is the time of the tests and of their servers.
var today = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

func ago(d time.Duration) metav1.Time { return metav1.NewTime(today.Add(-d)) }

// fake is an API server that has what it is given.
type fake struct {
	// remote are the RemoteAPIServices; nil means that the group is not there.
	remote []v1alpha1.RemoteAPIService
	// local are the APIServices, and slices the EndpointSlices.
	local  []apiregistrationv1.APIService
	slices []discoveryv1.EndpointSlice
	// answers go before all that, by path: a code, and the reason of a Status.
	answers map[string]refusal
	// date is what its clock says; zero means today.
	date time.Time

	mu    sync.Mutex
	asked []string
}

type refusal struct {
	code   int
	reason metav1.StatusReason
}

const (
	remotePath = "/apis/aggregation.annex.dev/v1alpha1/remoteapiservices"
	localPath  = "/apis/apiregistration.k8s.io/v1/apiservices"
)

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.asked = append(f.asked, r.URL.RequestURI())
	f.mu.Unlock()
	date := f.date
	if date.IsZero() {
		date = today
	}
	w.Header().Set("Date", date.Format(http.TimeFormat))
	w.Header().Set("Content-Type", "application/json")
	write := func(code int, object any) {
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(object) // a client that is gone needs no answer
	}
	refuse := func(code int, reason metav1.StatusReason) {
		write(code, metav1.Status{
			TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure, Code: int32(code), Reason: reason,
			Message: "it is " + string(reason),
		})
	}
	if no, ok := f.answers[r.URL.Path]; ok {
		refuse(no.code, no.reason)
		return
	}
	switch path := r.URL.Path; {
	case path == remotePath && f.remote != nil:
		write(200, page(r, f.remote, func(items []v1alpha1.RemoteAPIService, meta metav1.ListMeta) any {
			return v1alpha1.RemoteAPIServiceList{TypeMeta: metav1.TypeMeta{Kind: "RemoteAPIServiceList", APIVersion: v1alpha1.GroupVersion.String()}, ListMeta: meta, Items: items}
		}))
	case path == "/apis/aggregation.annex.dev" && f.remote != nil:
		write(200, metav1.APIGroup{TypeMeta: metav1.TypeMeta{Kind: "APIGroup", APIVersion: "v1"}})
	case path == localPath:
		write(200, page(r, f.local, func(items []apiregistrationv1.APIService, meta metav1.ListMeta) any {
			return apiregistrationv1.APIServiceList{TypeMeta: metav1.TypeMeta{Kind: "APIServiceList", APIVersion: "apiregistration.k8s.io/v1"}, ListMeta: meta, Items: items}
		}))
	case strings.HasPrefix(path, "/apis/discovery.k8s.io/v1/namespaces/"):
		namespace := strings.Split(path, "/")[5]
		some := slices.DeleteFunc(slices.Clone(f.slices), func(s discoveryv1.EndpointSlice) bool {
			return s.Namespace != namespace || !strings.Contains(r.URL.Query().Get("labelSelector"), s.Labels[discoveryv1.LabelServiceName])
		})
		write(200, discoveryv1.EndpointSliceList{TypeMeta: metav1.TypeMeta{Kind: "EndpointSliceList", APIVersion: "discovery.k8s.io/v1"}, Items: some})
	default:
		refuse(404, metav1.StatusReasonNotFound)
	}
}

// page is what limit and continue ask for.
func page[T any](r *http.Request, all []T, list func([]T, metav1.ListMeta) any) any {
	from, limit := 0, len(all)
	_, _ = fmt.Sscan(r.URL.Query().Get("continue"), &from) // absent means the first
	_, _ = fmt.Sscan(r.URL.Query().Get("limit"), &limit)
	meta := metav1.ListMeta{ResourceVersion: "7"}
	to := min(from+limit, len(all))
	if to < len(all) {
		meta.Continue = fmt.Sprint(to)
	}
	return list(all[from:to], meta)
}

// requests are those whose path begins so.
func (f *fake) requests(prefix string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, uri := range f.asked {
		if strings.HasPrefix(uri, prefix) {
			n++
		}
	}
	return n
}

// ran is what a command wrote, and the code that it ended with.
type ran struct {
	out, err string
	code     int
}

// run runs the command with flags against an API server. screen is the terminal's size; zero means none.
func run(t testing.TB, ctx context.Context, server http.Handler, screen [2]int, args ...string) ran {
	t.Helper()
	s := httptest.NewServer(server)
	defer s.Close()
	return runAt(t, ctx, func(o *Options) { o.Flags = kubeconfig.Flags{} }, screen, append(args, "--server", s.URL)...)
}

func runAt(t testing.TB, ctx context.Context, change func(*Options), screen [2]int, args ...string) ran {
	t.Helper()
	var out, errs bytes.Buffer
	o := &Options{IO: terminal.IO{Out: &out, Err: &errs}, now: func() time.Time { return today }}
	o.display.size = func() (int, int) { return screen[0], screen[1] }
	o.display.terminal = screen[0] > 0
	change(o)
	cmd := command("annex", o)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(ctx)
	r := ran{out: out.String(), err: errs.String()}
	if err != nil {
		r.err += err.Error() + "\n"
		r.code = 1
		if coded, ok := err.(interface{ ExitCode() int }); ok {
			r.code = coded.ExitCode()
		}
	}
	return r
}

// some are RemoteAPIServices in every state.
func some() []v1alpha1.RemoteAPIService {
	of := func(name, service string, state v1alpha1.State, reason, endpoints string, since time.Duration) v1alpha1.RemoteAPIService {
		version, group, _ := strings.Cut(name, ".")
		r := v1alpha1.RemoteAPIService{ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: ago(48 * time.Hour)}}
		r.Status = v1alpha1.RemoteAPIServiceStatus{
			Group: group, Version: version, Service: service, State: state, Reason: reason, EndpointSummary: endpoints, Since: ago(since),
			WatchList: "Works", Limits: v1alpha1.Limits{MaxInFlight: 400, InFlight: 3},
			Discovery: v1alpha1.Discovery{Document: v1alpha1.Document{Freshness: v1alpha1.Current}},
		}
		return r
	}
	all := []v1alpha1.RemoteAPIService{
		of("v1beta1.metrics.k8s.io", "kube-system/metrics-server:443", v1alpha1.Healthy, "", "2/2", 26*time.Hour),
		of("v1.apps.example.com", "shop/apps-api:443", v1alpha1.Degraded, "EndpointEjected", "2/3", 3*time.Minute),
		of("v1alpha1.orders.example.com", "shop/orders:8443", v1alpha1.Unavailable, "FailedDiscoveryCheck", "0/2", 42*time.Second),
		of("v1.new.example.com", "shop/new:443", v1alpha1.Unknown, "", "0/0", 0),
	}
	all[0].Status.Latency, all[0].Status.ErrorRate = &v1alpha1.Latency{P50: "2ms", P99: "12ms"}, "0.5%"
	all[2].Status.Message = "Get https://10.0.0.1:8443/apis: context deadline exceeded"
	all[3].Status.Since = metav1.Time{}
	return all
}
