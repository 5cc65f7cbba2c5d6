package kubeapiserver

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/endpoints/request"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/util/flowcontrol"
	fairqueuing "k8s.io/apiserver/pkg/util/flowcontrol/fairqueuing"
	flowcontrolrequest "k8s.io/apiserver/pkg/util/flowcontrol/request"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"

	"github.com/annex-api/annex/aggregator"
)

// fairness is one that admits all, and tells while a request holds a seat.
type fairness struct {
	flowcontrol.Interface
	seat *bool
}

func (f fairness) Handle(
	_ context.Context, _ flowcontrol.RequestDigest,
	_ func(*flowcontrolv1.FlowSchema, *flowcontrolv1.PriorityLevelConfiguration, string),
	_ func() flowcontrolrequest.WorkEstimate, _ fairqueuing.QueueNoteFn, execute func(),
) {
	*f.seat = true
	execute()
	*f.seat = false
}

// claimingState has an APIService whose extension server is nowhere: the layer answers
// for it with 503.
func claimingState() aggregator.State {
	return aggregator.State{
		APIServices: []*apiregistrationv1.APIService{{
			ObjectMeta: metav1.ObjectMeta{
				Name: "v1.a.example", Annotations: map[string]string{"aggregation.annex.dev/request-timeout": "7s"},
			},
			Spec: apiregistrationv1.APIServiceSpec{
				Group: "a.example", Version: "v1", GroupPriorityMinimum: 1, VersionPriority: 1,
				InsecureSkipTLSVerify: true, Service: &apiregistrationv1.ServiceReference{Namespace: "ns", Name: "api"},
			},
		}},
		Services: map[types.NamespacedName]aggregator.ServiceFacts{},
	}
}

// leveled is a fairness that takes each request for one of a priority level.
type leveled struct {
	fairness
	level *flowcontrolv1.PriorityLevelConfiguration
}

func (f leveled) Handle(
	ctx context.Context, digest flowcontrol.RequestDigest,
	note func(*flowcontrolv1.FlowSchema, *flowcontrolv1.PriorityLevelConfiguration, string),
	estimate func() flowcontrolrequest.WorkEstimate, queueNote fairqueuing.QueueNoteFn, execute func(),
) {
	note(&flowcontrolv1.FlowSchema{}, f.level, "")
	f.fairness.Handle(ctx, digest, note, estimate, queueNote, execute)
}

// What priority and fairness says of a request for an extension server is noted by its
// own filter as before, and is the priority there, watches included.
func TestPriorityLevelsOfRequests(t *testing.T) {
	level := func(name string, kind flowcontrolv1.PriorityLevelEnablement) *flowcontrolv1.PriorityLevelConfiguration {
		return &flowcontrolv1.PriorityLevelConfiguration{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: flowcontrolv1.PriorityLevelConfigurationSpec{Type: kind}}
	}
	for _, c := range []struct {
		level *flowcontrolv1.PriorityLevelConfiguration
		want  aggregator.Priority
	}{
		{level("exempt", flowcontrolv1.PriorityLevelEnablementExempt), aggregator.Exempt},
		{level("own", flowcontrolv1.PriorityLevelEnablementExempt), aggregator.Exempt},
		{level("exempt", flowcontrolv1.PriorityLevelEnablementLimited), aggregator.Ordinary},
		{level("own", flowcontrolv1.PriorityLevelEnablementLimited), aggregator.Ordinary},
		{level("system", flowcontrolv1.PriorityLevelEnablementLimited), aggregator.High},
		{level("node-high", flowcontrolv1.PriorityLevelEnablementLimited), aggregator.High},
		{level("leader-election", flowcontrolv1.PriorityLevelEnablementLimited), aggregator.High},
		{level("workload-high", flowcontrolv1.PriorityLevelEnablementLimited), aggregator.High},
		{level("workload-low", flowcontrolv1.PriorityLevelEnablementLimited), aggregator.Ordinary},
		{level("global-default", flowcontrolv1.PriorityLevelEnablementLimited), aggregator.Ordinary},
		{level("catch-all", flowcontrolv1.PriorityLevelEnablementLimited), aggregator.Ordinary},
	} {
		if got := priorityOf(c.level); got != c.want {
			t.Errorf("%s, %s: %d, want %d", c.level.Name, c.level.Spec.Type, got, c.want)
		}
	}

	source := aggregator.NewStaticSource(claimingState())
	layer, err := aggregator.New(aggregator.Config{Source: source})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- layer.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	<-layer.Routes()
	for _, path := range []string{"/apis/a.example/v1/things", "/api/v1/pods"} {
		for _, verb := range []string{"get", "watch"} {
			noted, executed, seat := "", false, false
			r := layer.WithRoute(httptest.NewRequest(http.MethodGet, path, nil))
			f := delegatingFairness{leveled{fairness{seat: &seat}, level("system", flowcontrolv1.PriorityLevelEnablementLimited)}, layer}
			f.Handle(r.Context(), flowcontrol.RequestDigest{RequestInfo: &request.RequestInfo{Verb: verb, Path: path}},
				func(_ *flowcontrolv1.FlowSchema, l *flowcontrolv1.PriorityLevelConfiguration, _ string) {
					noted = l.Name
				},
				nil, nil, func() { executed = true })
			if noted != "system" || !executed {
				t.Errorf("%s of %s: noted %q, executed %v", verb, path, noted, executed)
			}
		}
	}
}

// What is registered or removed while a request is on its way through the filters
// does not split its treatment: the handler chain, priority and fairness and the
// layer take it for the same.
func TestOneRequestIsTreatedAsOne(t *testing.T) {
	const path = "/apis/a.example/v1/things"
	source := aggregator.NewStaticSource(aggregator.State{})
	layer, err := aggregator.New(aggregator.Config{Source: source})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- layer.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	become := func(s aggregator.State) {
		source.Set(s)
		want := len(s.APIServices) > 0
		for begin := time.Now(); ; <-time.After(time.Millisecond) {
			if _, remote := layer.Claims(layer.WithRoute(httptest.NewRequest(http.MethodGet, path, nil)).Context()); remote == want {
				return
			}
			if time.Since(begin) > 30*time.Second {
				t.Fatal("the layer does not learn of the new state")
			}
		}
	}

	var meanwhile atomic.Pointer[func()]
	// A chain says for whom it is made, and whether the handler holds a seat.
	build := func(next http.Handler, c *genericapiserver.Config) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Chain", c.RequestTimeout.String())
			(*meanwhile.Load())()
			seat := false
			digest := flowcontrol.RequestDigest{RequestInfo: &request.RequestInfo{Verb: "get", Path: path}}
			delegatingFairness{fairness{seat: &seat}, layer}.Handle(r.Context(), digest, nil, nil, nil, func() {
				w.Header().Set("Seat", fmt.Sprint(seat))
				next.ServeHTTP(w, r)
			})
		})
	}
	local := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	handler := claimedPaths(layer, build)(local, &genericapiserver.Config{RequestTimeout: time.Minute, FlowControl: fairness{}})

	for _, c := range []struct {
		name          string
		before, after aggregator.State
		chain, seat   string
		code          int
	}{
		{"registered meanwhile", aggregator.State{}, claimingState(), "1m0s", "true", http.StatusTeapot},
		{"removed meanwhile", claimingState(), aggregator.State{}, "7s", "false", http.StatusServiceUnavailable},
		{"local all the time", aggregator.State{}, aggregator.State{}, "1m0s", "true", http.StatusTeapot},
		{"claimed all the time", claimingState(), claimingState(), "7s", "false", http.StatusServiceUnavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			become(c.before)
			change := func() { become(c.after) }
			meanwhile.Store(&change)
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
			if w.Code != c.code || w.Header().Get("Chain") != c.chain || w.Header().Get("Seat") != c.seat {
				t.Errorf("answered %d through the chain with %s, with a seat: %s; want %d, %s, %s",
					w.Code, w.Header().Get("Chain"), w.Header().Get("Seat"), c.code, c.chain, c.seat)
			}
		})
	}
}
