package status

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	clienttesting "k8s.io/client-go/testing"
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
