package conformance_test

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/annex-api/annex/extension/extensiontest/conformance"
	"github.com/annex-api/annex/extension/extensiontest/internal/broken"
)

// badSample has a label that no server takes.
func badSample() *unstructured.Unstructured {
	o := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"color": "red"}}}
	o.SetLabels(map[string]string{"color": "not a label value!"})
	return o
}

// stopAfter ends a run once some checks are made.
type stopAfter struct {
	checks int
	stop   func()
	plan   conformance.Plan
}

func (s *stopAfter) Planned(p conformance.Plan) { s.plan = p }

func (s *stopAfter) Checked(conformance.Result) {
	if s.checks--; s.checks == 0 {
		s.stop()
	}
}

func (*stopAfter) Finished(conformance.Summary) {}

// TestStoppedRunLeavesNothing: a run whose context ends removes what it made, and says that it was
// stopped.
func TestStoppedRunLeavesNothing(t *testing.T) {
	server := broken.Start(t, broken.None)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s := conformance.Run(ctx, server.Target(), &stopAfter{checks: 20, stop: cancel})
	if !errors.Is(s.Err, context.Canceled) || !strings.Contains(s.Err.Error(), "stopped after 20 checks") {
		t.Errorf("the error is %v", s.Err)
	}
	if len(s.Left) > 0 {
		t.Errorf("left behind: %v", s.Left)
	}
	if left := server.Left(); len(left) > 0 {
		t.Errorf("the server still has %v", left)
	}
}

// TestPlanIsKept: what the plan says is what is created, and nothing is created by asking for it.
func TestPlanIsKept(t *testing.T) {
	server := broken.Start(t, broken.None)
	target := server.Target()
	target.Name = "annex-conformance-plans"
	target.Only = []string{"get/*", "admission/*", "namespace/*"}
	plan, err := conformance.PlanOf(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	if made := server.Made(); len(made) > 0 {
		t.Errorf("asking for the plan created %v", made)
	}
	if want := []string{"get/not-found", "admission/policy", "namespace/deletion"}; !slices.Equal(plan.Checks, want) {
		t.Errorf("the plan has the checks %v, want %v", plan.Checks, want)
	}
	s := conformance.Run(t.Context(), target, nil)
	if s.Err != nil || s.Count(conformance.Passed) != 3 {
		t.Errorf("error %v, %d passed", s.Err, s.Count(conformance.Passed))
	}
	text := strings.Join(plan.Creates, "\n")
	for _, made := range server.Made() {
		if !strings.Contains(text, made) {
			t.Errorf("%s was created, which the plan does not say:\n%s", made, text)
		}
	}
}

// TestSampleAndChange: a sample and a field of the user's own are used.
func TestSampleAndChange(t *testing.T) {
	target := broken.Start(t, broken.None).Target()
	target.Sample = &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"color": "red", "size": int64(7)}}}
	target.Change = []string{"spec", "size"}
	target.Only = []string{"generation/*", "watch/field", "status/*", "patch/*", "versions/*"}
	s := conformance.Run(t.Context(), target, nil)
	if s.Err != nil {
		t.Fatal(s.Err)
	}
	for _, r := range s.Results {
		if r.Outcome != conformance.Passed {
			t.Errorf("%s: %s %s", r.Check.ID, r.Reason, r.Explain())
		}
	}
}

// lateDocument hides the group version from the index of documents, some times.
type lateDocument struct {
	http.RoundTripper
	hidden *atomic.Int32
}

func (l lateDocument) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := l.RoundTripper.RoundTrip(r)
	if err == nil && r.URL.Path == "/openapi/v3" && l.hidden.Add(-1) >= 0 {
		_ = response.Body.Close()
		response.Body, response.ContentLength = io.NopCloser(strings.NewReader(`{"paths":{}}`)), -1
	}
	return response, err
}

// TestDocumentThatComesLate: an aggregator lists the document of a group version some time after the
// APIService is available. Without a schema there would be no sample.
func TestDocumentThatComesLate(t *testing.T) {
	target := broken.Start(t, broken.None).Target()
	hidden := &atomic.Int32{}
	hidden.Store(2)
	target.Config.Wrap(func(rt http.RoundTripper) http.RoundTripper { return lateDocument{rt, hidden} })
	target.Only = []string{"openapi/*"}
	s := conformance.Run(t.Context(), target, &stopAfter{stop: func() {}})
	if s.Err != nil || len(s.Results) == 0 || hidden.Load() >= 0 {
		t.Fatalf("the run ended with %v and %d results, %d times before the document came", s.Err, len(s.Results), hidden.Load())
	}
	for _, r := range s.Results {
		if r.Outcome != conformance.Passed {
			t.Errorf("%s: %s, %s", r.Check.ID, r.Outcome, r.Reason)
		}
	}
}

// TestUnmetNeeds: a result says which need was not met, apart from what a check itself found out.
func TestUnmetNeeds(t *testing.T) {
	target := broken.Start(t, broken.None).Target()
	target.Second, target.Storage = nil, conformance.Storage{}
	target.Only = []string{"get/not-found", "authz/list", "storage/down"}
	s := conformance.Run(t.Context(), target, nil)
	got := map[string]conformance.Need{}
	for _, r := range s.Results {
		got[r.Check.ID] = r.Unmet
	}
	want := map[string]conformance.Need{"get/not-found": "", "authz/list": conformance.SecondUser, "storage/down": conformance.StorageSwitch}
	if s.Err != nil || !maps.Equal(got, want) {
		t.Errorf("error %v, unmet %v, want %v", s.Err, got, want)
	}
}
