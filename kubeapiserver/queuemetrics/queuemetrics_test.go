package queuemetrics

import (
	"fmt"
	"math"
	"os"
	"runtime/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/client-go/util/workqueue"
	"k8s.io/component-base/metrics/legacyregistry"
)

func TestMain(m *testing.M) {
	Install()
	Install() // has no effect
	os.Exit(m.Run())
}

// value is one metric of the queues of a name, as it is published; of a
// histogram the number of observations.
func value(t *testing.T, metric, name string) float64 {
	t.Helper()
	families, err := legacyregistry.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != "workqueue_"+metric {
			continue
		}
		for _, m := range family.GetMetric() {
			if m.GetLabel()[0].GetValue() != name {
				continue
			}
			if h := m.GetHistogram(); h != nil {
				return float64(h.GetSampleCount())
			}
			return m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	t.Fatalf("workqueue_%s of %q is not published", metric, name)
	return 0
}

// unused is a name that no queue of this process had before.
func unused(t *testing.T) string {
	return fmt.Sprint(t.Name(), "-", names.Add(1))
}

var names atomic.Int32

func newQueue(name string) workqueue.TypedRateLimitingInterface[string] {
	return workqueue.NewTypedRateLimitingQueueWithConfig(
		workqueue.DefaultTypedControllerRateLimiter[string](),
		workqueue.TypedRateLimitingQueueConfig[string]{Name: name},
	)
}

// A queue says what the reference's says, while its items are worked on.
func TestMetrics(t *testing.T) {
	name := unused(t)
	q := newQueue(name)
	defer q.ShutDown()
	for _, item := range []string{"a", "b", "c"} {
		q.Add(item)
	}
	q.AddRateLimited("c") // waits already: a retry, not an addition
	began := time.Now()
	first, _ := q.Get()
	second, _ := q.Get()
	if got := value(t, "depth", name); got != 1 {
		t.Errorf("depth %v, want 1", got)
	}
	if got := value(t, "unfinished_work_seconds", name); got != 0 && time.Since(began) < interval {
		t.Errorf("unfinished work %v before anybody looked", got)
	}
	wait(t, "work under way shows", func() bool { return value(t, "longest_running_processor_seconds", name) > 0.4 })
	longest := value(t, "longest_running_processor_seconds", name)
	unfinished := value(t, "unfinished_work_seconds", name)
	if most := time.Since(began).Seconds(); longest > most || unfinished < longest || unfinished > 2*most {
		t.Errorf("longest %v, unfinished %v after %v of two items", longest, unfinished, most)
	}
	q.Done(first)
	wait(t, "one is left", func() bool {
		u, l := value(t, "unfinished_work_seconds", name), value(t, "longest_running_processor_seconds", name)
		return u == l && l > longest
	})
	q.Done(second)
	wait(t, "none is left", func() bool {
		return value(t, "unfinished_work_seconds", name) == 0 && value(t, "longest_running_processor_seconds", name) == 0
	})
	for metric, want := range map[string]float64{
		"adds_total": 3, "retries_total": 1, "work_duration_seconds": 2, "queue_duration_seconds": 2, "depth": 1,
	} {
		if got := value(t, metric, name); got != want {
			t.Errorf("%s %v, want %v", metric, got, want)
		}
	}
}

func wait(t *testing.T, what string, done func() bool) {
	t.Helper()
	for range 600 {
		if done() {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("not after 30 s: %s", what)
}

// No goroutine of a queue looks at metrics after its first tick, and the queue
// goes on: it hands out items, drains and shuts down.
func TestNobodyLooks(t *testing.T) {
	name := unused(t)
	loops := func() int {
		var all strings.Builder
		if err := pprof.Lookup("goroutine").WriteTo(&all, 2); err != nil {
			t.Fatal(err)
		}
		return strings.Count(all.String(), "updateUnfinishedWorkLoop(")
	}
	wait(t, "a queue has the loop that this package ends", func() bool {
		defer newQueue(unused(t)).ShutDown()
		for range 20 {
			if loops() > 0 {
				return true
			}
			time.Sleep(time.Millisecond)
		}
		return false
	})
	queues := make([]workqueue.TypedRateLimitingInterface[string], 20)
	for i := range queues {
		queues[i] = newQueue(name)
	}
	time.Sleep(interval) // they have begun, and had a tick
	wait(t, "the loops end", func() bool { return loops() == 0 })
	var workers sync.WaitGroup
	for _, q := range queues {
		q.Add("item")
		workers.Go(func() {
			for {
				item, shutdown := q.Get()
				if shutdown {
					return
				}
				q.Done(item)
			}
		})
	}
	for _, q := range queues {
		q.ShutDownWithDrain()
	}
	workers.Wait()
	wait(t, "all is done", func() bool {
		return value(t, "work_duration_seconds", name) == 20 && value(t, "unfinished_work_seconds", name) == 0
	})
}

// What somebody else than the loop sets is set.
func TestOtherCallers(t *testing.T) {
	g := &fakeGauge{}
	p := &polled{gauge: g}
	p.Set(3)
	p.Set(4)
	if got := g.last(); got != 4 {
		t.Errorf("the gauge is %v, want 4", got)
	}
}

type fakeGauge struct {
	lock sync.Mutex
	sets []float64
}

func (g *fakeGauge) Set(v float64) {
	g.lock.Lock()
	defer g.lock.Unlock()
	g.sets = append(g.sets, v)
}

func (g *fakeGauge) last() float64 {
	g.lock.Lock()
	defer g.lock.Unlock()
	if len(g.sets) == 0 {
		return math.NaN()
	}
	return g.sets[len(g.sets)-1]
}

// The timer runs while there is work, and once more to say that there is none.
func TestWatcherRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatcher(interval)
		unfinished, longest := &fakeGauge{}, &fakeGauge{}
		q := &queue{watcher: w, unfinished: unfinished, longest: longest}
		w.queues["q"] = q
		rests := func() bool {
			w.lock.Lock()
			defer w.lock.Unlock()
			return !w.armed
		}
		if !rests() {
			t.Fatal("a timer runs before there is work")
		}
		q.begin()
		q.end(0)
		time.Sleep(interval + 1)
		synctest.Wait()
		if !rests() || len(unfinished.sets) != 0 {
			t.Errorf("short work: rests %v, set %v", rests(), unfinished.sets)
		}
		q.begin()
		time.Sleep(interval - 1)
		synctest.Wait()
		if got := unfinished.last(); !math.IsNaN(got) {
			t.Errorf("unfinished %v before anybody looked", got)
		}
		time.Sleep(time.Second - interval + 1)
		q.begin()
		time.Sleep(time.Second + 1)
		synctest.Wait()
		if unfinished.last() != 3 || longest.last() != 2 {
			t.Errorf("unfinished %v, longest %v, want 3 and 2", unfinished.last(), longest.last())
		}
		q.end(2) // the first
		time.Sleep(interval)
		synctest.Wait()
		if unfinished.last() != 1.5 || longest.last() != 1.5 {
			t.Errorf("unfinished %v, longest %v, want 1.5 of the second item", unfinished.last(), longest.last())
		}
		q.end(1.5)
		time.Sleep(interval)
		synctest.Wait()
		sets := len(unfinished.sets)
		if unfinished.last() != 0 || longest.last() != 0 || !rests() {
			t.Errorf("at the end: unfinished %v, longest %v, rests %v", unfinished.last(), longest.last(), rests())
		}
		time.Sleep(time.Minute)
		if len(unfinished.sets) != sets {
			t.Error("an idle queue was looked at")
		}
	})
}
