package status

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clienttesting "k8s.io/client-go/testing"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset/fake"

	"github.com/annex-api/annex/aggregator/internal/backendtest"
	"github.com/annex-api/annex/aggregator/internal/catalog"
)

const name = "v1.a.example"

var (
	up   = catalog.Verdict{Status: apiregistrationv1.ConditionTrue, Reason: "Passed", Message: "all checks passed"}
	down = catalog.Verdict{Status: apiregistrationv1.ConditionFalse, Reason: "FailedDiscoveryCheck", Message: "bad status"}
	gone = catalog.Verdict{Status: apiregistrationv1.ConditionFalse, Reason: "FailedDiscoveryCheck", Message: "timed out"}
)

// stored is a fake API server with one APIService.
type stored struct {
	t      *testing.T
	client *fake.Clientset
}

func newStored(t *testing.T, conditions ...apiregistrationv1.APIServiceCondition) stored {
	t.Helper()
	o := (&backendtest.Server{Service: "api"}).APIService(name)
	o.Status.Conditions = conditions
	return stored{t, fake.NewClientset(o)}
}

func (s stored) object() *apiregistrationv1.APIService {
	s.t.Helper()
	o, err := s.client.ApiregistrationV1().APIServices().Get(context.Background(), name, metav1.GetOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	return o
}

// snapshot is what the cache would hold now, with that verdict.
func (s stored) snapshot(v catalog.Verdict) *catalog.Snapshot { return snapshotOf(s.object(), v) }

func snapshotOf(o *apiregistrationv1.APIService, v catalog.Verdict) *catalog.Snapshot {
	return catalog.Build(factsOf(o, v))
}

func factsOf(o *apiregistrationv1.APIService, v catalog.Verdict) catalog.Facts {
	f := backendtest.Facts([]*apiregistrationv1.APIService{o}, &backendtest.Server{Service: "api", Address: "192.0.2.1:443"})
	f.Verdicts[name] = v
	return f
}

// writes counts the updates of the status so far.
func (s stored) writes() int {
	n := 0
	for _, a := range s.client.Actions() {
		if a.Matches("update", "apiservices") && a.GetSubresource() == "status" {
			n++
		} else if a.GetVerb() != "get" {
			s.t.Errorf("an action of another kind: %v", a)
		}
	}
	return n
}

func (s stored) refuse(err error) {
	s.client.PrependReactor("update", "apiservices", func(clienttesting.Action) (bool, runtime.Object, error) { return true, nil, err })
}

func condition(s catalog.Status, reason, message string, since time.Time) apiregistrationv1.APIServiceCondition {
	return apiregistrationv1.APIServiceCondition{
		Type: apiregistrationv1.Available, Status: s, Reason: reason, Message: message, LastTransitionTime: metav1.NewTime(since),
	}
}

// always lets a writer write.
func always() error { return nil }

func TestOneWriteForEachChange(t *testing.T) {
	s := newStored(t)
	changes := 0
	w := New(Config{Client: s.client.ApiregistrationV1(), Observe: func(before, after *apiregistrationv1.APIService) { changes++ }})
	for i, c := range []struct {
		verdict catalog.Verdict
		writes  int
	}{{up, 1}, {up, 1}, {down, 2}, {down, 2}, {gone, 3}, {up, 4}, {catalog.Verdict{}, 4}} {
		w.Sync(s.snapshot(c.verdict))
		if done, wait := w.reconcile(t.Context(), always); !done || wait != 0 {
			t.Errorf("step %d: done %v, more in %v", i, done, wait)
		}
		if n := s.writes(); n != c.writes || changes != c.writes {
			t.Errorf("step %d: %d writes, %d observed, want %d", i, n, changes, c.writes)
		}
		if c.verdict.Status == "" {
			continue
		}
		got := s.object().Status.Conditions
		if len(got) != 1 || got[0].Status != c.verdict.Status || got[0].Reason != c.verdict.Reason || got[0].Message != c.verdict.Message || got[0].Type != apiregistrationv1.Available {
			t.Errorf("step %d: %+v", i, got)
		}
	}
}

// What readers should know besides the verdict is written when it changes, once.
func TestWhatIsSaidBesidesTheVerdictIsWrittenOnce(t *testing.T) {
	since := time.Now().Add(-time.Hour).Truncate(time.Second)
	s := newStored(t, condition("True", "Passed", "all checks passed", since))
	w := New(Config{Client: s.client.ApiregistrationV1()})
	const warning = "the resource list of /apis/a.example/v1 names no kind"
	for i, c := range []struct {
		warning string
		support catalog.WatchListSupport
		writes  int
		message string
	}{
		{"", catalog.WatchListUnknown, 0, "all checks passed"},
		{warning, catalog.WatchListUnknown, 1, "all checks passed; " + warning},
		{warning, catalog.WatchListWorks, 1, "all checks passed; " + warning},
		{warning, catalog.WatchListMissing, 2, "all checks passed; " + warning + "; watches with sendInitialEvents are refused: the extension server does not end their initial events"},
		{"", catalog.WatchListWorks, 3, "all checks passed"},
	} {
		f := factsOf(s.object(), up)
		f.Documents[name] = catalog.Document{Warning: c.warning}
		f.WatchLists = map[string]catalog.WatchListSupport{name: c.support}
		for range 3 {
			w.Sync(catalog.Build(f))
			w.reconcile(t.Context(), always)
		}
		got := s.object().Status.Conditions[0]
		if got.Message != c.message || got.Status != "True" || !got.LastTransitionTime.Time.Equal(since) || s.writes() != c.writes {
			t.Errorf("step %d: %+v after %d writes, want %d", i, got, s.writes(), c.writes)
		}
	}
}

func TestTransitionTimeMovesWithTheStatusOnly(t *testing.T) {
	since := time.Now().Add(-time.Hour).Truncate(time.Second)
	s := newStored(t, condition("False", "FailedDiscoveryCheck", "bad status", since))
	w := New(Config{Client: s.client.ApiregistrationV1()})
	w.Sync(s.snapshot(gone)) // another message, the same status
	w.reconcile(t.Context(), always)
	got := s.object().Status.Conditions[0]
	if got.Message != "timed out" || !got.LastTransitionTime.Time.Equal(since) {
		t.Errorf("%+v, want the transition at %v", got, since)
	}
	w.Sync(s.snapshot(up))
	w.reconcile(t.Context(), always)
	if got := s.object().Status.Conditions[0]; !got.LastTransitionTime.After(since) {
		t.Errorf("%+v: the status changed and the time did not", got)
	}
}

func TestOtherConditionsAndSpecStay(t *testing.T) {
	other := apiregistrationv1.APIServiceCondition{Type: "Other", Status: "True", Reason: "Theirs"}
	s := newStored(t, other)
	before := s.object()
	w := New(Config{Client: s.client.ApiregistrationV1()})
	w.Sync(snapshotOf(before, up))
	w.reconcile(t.Context(), always)
	after := s.object()
	if len(after.Status.Conditions) != 2 || after.Status.Conditions[0] != other {
		t.Errorf("%+v", after.Status.Conditions)
	}
	if len(before.Status.Conditions) != 1 {
		t.Error("the source's object was changed")
	}
}

// A cache that has not caught up does not cause a second write.
func TestLaggingCacheCausesNoSecondWrite(t *testing.T) {
	s := newStored(t)
	w := New(Config{Client: s.client.ApiregistrationV1()})
	old := s.snapshot(down)
	for range 3 {
		w.Sync(old)
		w.reconcile(t.Context(), always)
	}
	if n := s.writes(); n != 1 {
		t.Errorf("%d writes over the same version", n)
	}
}

// A condition that another writer has changed is put right again, once.
func TestForeignWritesAreCorrected(t *testing.T) {
	s := newStored(t)
	w := New(Config{Client: s.client.ApiregistrationV1()})
	w.Sync(s.snapshot(up))
	w.reconcile(t.Context(), always)
	theirs := s.object()
	theirs.ResourceVersion = "7"
	theirs.Status.Conditions = []apiregistrationv1.APIServiceCondition{condition("False", "Theirs", "", time.Now())}
	w.Sync(snapshotOf(theirs, up))
	w.reconcile(t.Context(), always)
	if got := s.object().Status.Conditions[0]; got.Reason != "Passed" || s.writes() != 2 {
		t.Errorf("%+v after %d writes", got, s.writes())
	}
}

func TestRefusedWrites(t *testing.T) {
	resource := schema.GroupResource{Group: "apiregistration.k8s.io", Resource: "apiservices"}
	for what, c := range map[string]struct {
		err  error
		done bool
	}{
		"conflict":  {apierrors.NewConflict(resource, name, errors.New("changed")), true},
		"not found": {apierrors.NewNotFound(resource, name), true},
		"other":     {errors.New("etcd is away"), false},
		"timeout":   {apierrors.NewTimeoutError("slow", 1), false},
	} {
		t.Run(what, func(t *testing.T) {
			s := newStored(t)
			s.refuse(c.err)
			observed := false
			w := New(Config{Client: s.client.ApiregistrationV1(), Observe: func(_, _ *apiregistrationv1.APIService) { observed = true }})
			snapshot := s.snapshot(up)
			w.Sync(snapshot)
			if got, _ := w.reconcile(t.Context(), always); got != c.done {
				t.Errorf("done %v, want %v", got, c.done)
			}
			if observed {
				t.Error("a write that failed was observed")
			}
			w.reconcile(t.Context(), always)
			if want := map[bool]int{true: 1, false: 2}[c.done]; s.writes() != want {
				t.Errorf("%d writes, want %d", s.writes(), want)
			}
			// What the watch brings after a conflict is written over.
			if what == "conflict" {
				newer := s.object()
				newer.ResourceVersion = "8"
				w.Sync(snapshotOf(newer, up))
				if w.reconcile(t.Context(), always); s.writes() != 2 {
					t.Errorf("%d writes after the watch brought another version", s.writes())
				}
			}
		})
	}
}

func TestInvalidAndForgottenAPIServices(t *testing.T) {
	s := newStored(t)
	w := New(Config{Client: s.client.ApiregistrationV1()})
	w.Sync(s.snapshot(up))
	w.reconcile(t.Context(), always)
	bad := s.object()
	bad.Spec.Version = "v2" // no longer its name
	w.Sync(snapshotOf(bad, up))
	w.reconcile(t.Context(), always)
	if s.writes() != 1 {
		t.Error("an invalid APIService was written to")
	}
	w.Sync(catalog.Build(catalog.Facts{}))
	w.reconcile(t.Context(), always)
	if len(w.lastWrites) != 0 {
		t.Errorf("%d writes are remembered of what is gone", len(w.lastWrites))
	}
}

// A recovery after many falls is written when it has lasted, without a new snapshot.
func TestRecoveryIsWrittenWhenItHasLasted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStored(t)
		w := New(Config{Client: s.client.ApiregistrationV1()})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); _ = w.Run(ctx) }()
		sync := func(v catalog.Verdict, want catalog.Status) {
			t.Helper()
			w.Sync(s.snapshot(v))
			synctest.Wait()
			if got := s.object().Status.Conditions[0].Status; got != want {
				t.Errorf("the condition is %s, want %s", got, want)
			}
		}
		for range 3 {
			sync(up, "True")
			sync(down, "False")
		}
		sync(up, "False")
		time.Sleep(holdMin)
		synctest.Wait()
		if got := s.object().Status.Conditions[0].Status; got != "True" {
			t.Errorf("the condition is %s after %v", got, holdMin)
		}
		cancel()
		<-ended
	})
}
