package aggregator

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/annex-api/annex/aggregator/internal/backendtest"
	"github.com/annex-api/annex/aggregator/internal/catalog"
)

// What a probe has found holds for the extension server that was probed. Where the
// APIService leads elsewhere by now, or is gone, it is nobody's.
func TestVerdictOfAnotherServerIsDropped(t *testing.T) {
	leadsTo := func(service string) *apiregistrationv1.APIService {
		o := &apiregistrationv1.APIService{ObjectMeta: metav1.ObjectMeta{Name: "v1.a.example"}}
		o.Spec.Group, o.Spec.Version = "a.example", "v1"
		if service != "" {
			o.Spec.Service = &apiregistrationv1.ServiceReference{Namespace: "ns", Name: service}
		}
		return o
	}
	up := catalog.Verdict{Status: apiregistrationv1.ConditionTrue}
	for what, c := range map[string]struct {
		now  []*apiregistrationv1.APIService
		want bool
	}{
		"the same server":    {[]*apiregistrationv1.APIService{leadsTo("a")}, true},
		"another server":     {[]*apiregistrationv1.APIService{leadsTo("b")}, false},
		"this server itself": {[]*apiregistrationv1.APIService{leadsTo("")}, false},
		"none":               {nil, false},
	} {
		f := newFacts(Config{})
		f.setState(State{APIServices: []*apiregistrationv1.APIService{leadsTo("a")}})
		probed := catalog.NewRegistration(leadsTo("a"))
		f.setState(State{APIServices: c.now})
		f.setVerdict(probed, up) // the probe ended after the change
		if _, taken := f.all.Verdicts["v1.a.example"]; taken != c.want {
			t.Errorf("leading to %s: the verdict is taken: %v, want %v", what, taken, c.want)
		}
	}
}

// A thousand facts, one a millisecond, cost at most a hundred snapshots; the
// first of them is not kept waiting, and the last is not lost.
func TestManyFactsCostFewSnapshots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, err := New(Config{Source: NewStaticSource(State{Services: map[types.NamespacedName]ServiceFacts{}})})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = a.Run(ctx)
		}()
		time.Sleep(time.Second)
		synctest.Wait()
		seen := a.snapshot.Load()
		snapshots := 0
		for i := range 1000 {
			a.facts.setZone(fmt.Sprint(i))
			synctest.Wait()
			if s := a.snapshot.Load(); s != seen {
				seen, snapshots = s, snapshots+1
			}
			if i == 0 && snapshots != 1 {
				t.Error("the first fact after a quiet time had to wait")
			}
			time.Sleep(time.Millisecond)
		}
		if snapshots < 10 || snapshots > 100 {
			t.Errorf("%d snapshots for a thousand facts", snapshots)
		}
		time.Sleep(maxPause)
		synctest.Wait()
		a.facts.mu.Lock()
		last := a.facts.all.Zone
		a.facts.mu.Unlock()
		if last != "999" || len(a.facts.changed) != 0 || a.snapshot.Load() == seen {
			t.Errorf("the last fact is %q; it is not part of a snapshot", last)
		}
		cancel()
		<-ended
	})
}

// An unchanged APIService is not read again when another one changes.
func TestRegistrationsAreKept(t *testing.T) {
	a, err := New(Config{Source: NewStaticSource(State{})})
	if err != nil {
		t.Fatal(err)
	}
	one := (&backendtest.Server{Service: "one"}).APIService("v1.one.example")
	a.facts.setState(State{APIServices: []*apiregistrationv1.APIService{one}})
	one.Annotations = map[string]string{"aggregation.annex.dev/request-timeout": "7s"} // against the rules, to see whether it is read
	two := (&backendtest.Server{Service: "two"}).APIService("v1.two.example")
	a.facts.setState(State{APIServices: []*apiregistrationv1.APIService{one, two}})
	if d := a.facts.all.Registrations[one.Name].Settings.RequestTimeout; d != 0 || len(a.facts.all.Registrations) != 2 {
		t.Errorf("%d registrations; the unchanged one was read again: %v", len(a.facts.all.Registrations), d)
	}
	changed := one.DeepCopy()
	a.facts.setState(State{APIServices: []*apiregistrationv1.APIService{changed, two}})
	if d := a.facts.all.Registrations[one.Name].Settings.RequestTimeout; d != 7*time.Second {
		t.Errorf("the changed one was not read: %v", d)
	}
}
