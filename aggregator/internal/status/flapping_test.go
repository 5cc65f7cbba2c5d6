package status

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr/funcr"
	"k8s.io/apimachinery/pkg/runtime"
	kubefake "k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/klog/v2"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/annex-api/annex/aggregator/internal/catalog"
)

// An extension server that flaps, or fails in another way each time, for an hour
// costs etcd no more writes and bytes than the bounds, and what is true in the end is
// reported.
func TestAnHourOfFlappingIsWrittenWithinBounds(t *testing.T) {
	const hour, periods = time.Hour, int(time.Hour / conditionPeriod)
	failure := func(i int) catalog.Verdict {
		v := down
		v.Message = fmt.Sprintf("failure %d", i)
		return v
	}
	for name, c := range map[string]struct {
		verdict func(i int) catalog.Verdict
		size    int // of the object, besides
	}{
		"up and down":                            {func(i int) catalog.Verdict { return []catalog.Verdict{up, down}[i%2] }, 0},
		"another message each time":              {failure, 0},
		"the same of an object of half a MiB":    {failure, 512 << 10},
		"up and down, another message each time": {func(i int) catalog.Verdict { return []catalog.Verdict{up, failure(i)}[i%2] }, 100 << 10},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStored(t)
				if c.size > 0 {
					o := s.object()
					o.Annotations = map[string]string{"large": strings.Repeat("x", c.size)}
					if err := s.client.Tracker().Update(apiregistrationv1.SchemeGroupVersion.WithResource("apiservices"), o, ""); err != nil {
						t.Fatal(err)
					}
				}
				w := New(Config{Client: s.client.ApiregistrationV1()})
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan struct{})
				go func() { defer close(ended); _ = w.Run(ctx) }()
				object := s.object()
				for i := range int(hour / (250 * time.Millisecond)) {
					if i%4 == 0 { // the cache follows
						object = s.object()
					}
					w.Sync(snapshotOf(object, c.verdict(i)))
					time.Sleep(250 * time.Millisecond)
				}
				writes, bytes := 0, 0
				for _, a := range s.client.Actions() {
					if u, ok := a.(clienttesting.UpdateAction); ok {
						writes++
						bytes += u.GetObject().(*apiregistrationv1.APIService).Size()
					}
				}
				t.Logf("%d writes of %d bytes", writes, bytes)
				if most := conditionWrites * (1 + periods); writes > most {
					t.Errorf("%d writes, at most %d are allowed", writes, most)
				}
				if most := conditionBytes*(1+periods) + c.size + 4096; bytes > most {
					t.Errorf("%d bytes, at most %d are allowed", bytes, most)
				}
				w.Sync(snapshotOf(s.object(), gone))
				time.Sleep(conditionPeriod)
				synctest.Wait()
				if got := s.object().Status.Conditions[0]; got.Message != gone.Message {
					t.Errorf("in the end the condition says %q", got.Message)
				}
				cancel()
				<-ended
			})
		})
	}
}

// What is published of a dissent is bounded too.
func TestAnHourOfChangingDissentIsWrittenWithinBounds(t *testing.T) {
	const size = 100 << 10
	p := publication{changes: newDissentBounds()}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	end, changes := now.Add(time.Hour), 0
	for i := 0; now.Before(end); i++ {
		views := map[string]view{fmt.Sprint(i): {}}
		if change, _, _ := p.next(now, views); change {
			changes++
			p.changes.Spend(now, size)
			p.views, p.written = views, now
		}
		now = now.Add(time.Second)
	}
	periods := int(time.Hour / dissentPeriod)
	if changes > dissentWrites*(1+periods) || changes*size > dissentBytes*(1+periods)+size || changes < periods {
		t.Errorf("%d changes", changes)
	}
}

// A write that fails costs the API server and etcd as much as any: they are bounded in
// number, and one of those in a row is logged as an error.
func TestAnHourOfFailingWritesIsWithinBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStored(t)
		var failing atomic.Bool
		failing.Store(true)
		s.client.PrependReactor("update", "apiservices", func(clienttesting.Action) (bool, runtime.Object, error) {
			return failing.Load(), nil, errors.New("a webhook is down")
		})
		lines := 0 // that are errors
		logger := funcr.New(func(_, line string) {
			if strings.Contains(line, `"error"=`) {
				lines++
			}
		}, funcr.Options{})
		ctx, cancel := context.WithCancel(klog.NewContext(t.Context(), logger))
		w := New(Config{Client: s.client.ApiregistrationV1()})
		ended := make(chan struct{})
		go func() { defer close(ended); _ = w.Run(ctx) }()
		w.Sync(s.snapshot(down))
		time.Sleep(time.Hour)
		synctest.Wait()
		periods := int(time.Hour / conditionPeriod)
		if n := s.writes(); n > conditionWrites*(1+periods) || n < periods {
			t.Errorf("%d writes in an hour", n)
		}
		if lines != 1 {
			t.Errorf("%d lines of errors, want one", lines)
		}
		failing.Store(false)
		time.Sleep(conditionPeriod / conditionWrites)
		synctest.Wait()
		if got := s.object().Status.Conditions; len(got) != 1 || got[0].Message != down.Message {
			t.Errorf("after the failure the condition is %+v", got)
		}
		cancel()
		<-ended
	})
}

// A Lease that cannot be removed is tried again after its lifetime, not each second.
func TestFailingRemovalsOfLeasesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kube := kubefake.NewClientset()
		kube.PrependReactor("delete", "leases", func(clienttesting.Action) (bool, runtime.Object, error) {
			return true, nil, errors.New("a webhook is down")
		})
		w := New(Config{Leases: kube.CoordinationV1(), Namespace: "kube-system"})
		w.peers.learn(time.Now(), dissentLease("annex-dissent-gone", "gone:6443", "{}", time.Now()))
		w.Sync(catalog.Build(catalog.Facts{}))
		began := time.Now()
		for time.Since(began) < time.Hour {
			done, wait := w.reconcile(t.Context(), always)
			if !done || wait <= 0 || wait > dissentLifetime {
				t.Fatalf("done %v, more in %v", done, wait)
			}
			time.Sleep(wait)
		}
		if n, most := len(kube.Actions()), int(time.Hour/dissentLifetime); n > most || n < most-1 {
			t.Errorf("%d removals, want about %d", n, most)
		}
	})
}

// Whatever changes all the time, at an extension server or in Leases, the conditions are
// gone through a fifth of the time.
func TestTheWriterPausesAfterWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const cost = 50 * time.Millisecond
		s := newStored(t)
		object := s.object()
		s.client.PrependReactor("update", "apiservices", func(clienttesting.Action) (bool, runtime.Object, error) {
			time.Sleep(cost)
			return false, nil, nil
		})
		w := New(Config{Client: s.client.ApiregistrationV1()})
		w.bounds = conditionBudget{}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); _ = w.Run(ctx) }()
		for i := range 1000 {
			v := down
			v.Message = fmt.Sprintf("failure %d", i)
			w.Sync(snapshotOf(object, v))
			time.Sleep(10 * time.Millisecond)
		}
		cancel()
		<-ended
		if n := s.writes(); n < 30 || n > 45 {
			t.Errorf("%d writes of %v each in 10 s, want a fifth of the time", n, cost)
		}
	})
}

// An extension server that fails in another way each time, for an hour, delays no report
// of what comes then: it is back, and down again.
func TestMessagesLeaveWritesForChangesOfTheStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStored(t)
		w := New(Config{Client: s.client.ApiregistrationV1()})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); _ = w.Run(ctx) }()
		report := func(v catalog.Verdict) {
			w.Sync(s.snapshot(v))
			synctest.Wait()
		}
		for i := range int(time.Hour / time.Second) {
			v := down
			v.Message = fmt.Sprintf("bad status: %d", 500+i%3)
			report(v)
			time.Sleep(time.Second)
		}
		for i, v := range []catalog.Verdict{up, down, up, down} {
			report(v)
			if got := s.object().Status.Conditions[0].Status; got != v.Status {
				t.Errorf("change %d: the condition is %s, want %s", i, got, v.Status)
			}
			time.Sleep(100 * time.Millisecond)
		}
		cancel()
		<-ended
	})
}
