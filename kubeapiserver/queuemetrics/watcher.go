package queuemetrics

import (
	"sync"
	"time"

	"k8s.io/client-go/util/workqueue"
)

// interval is how old the gauges of unfinished work may be: client-go's own.
const interval = 500 * time.Millisecond

// watcher sets the gauges of unfinished work of all queues, while there is any.
type watcher struct {
	interval time.Duration

	lock   sync.Mutex
	queues map[string]*queue
	timer  *time.Timer
	armed  bool
}

func newWatcher(interval time.Duration) *watcher {
	return &watcher{interval: interval, queues: map[string]*queue{}}
}

// of returns what is kept of all queues of a name: they share their metrics.
func (w *watcher) of(name string, p workqueue.MetricsProvider) *queue {
	w.lock.Lock()
	defer w.lock.Unlock()
	q := w.queues[name]
	if q == nil {
		q = &queue{
			watcher:    w,
			unfinished: p.NewUnfinishedWorkSecondsMetric(name),
			longest:    p.NewLongestRunningProcessorSecondsMetric(name),
		}
		w.queues[name] = q
	}
	return q
}

// queue is the work under way in the queues of one name.
type queue struct {
	watcher             *watcher
	unfinished, longest workqueue.SettableGaugeMetric

	// Under the watcher's lock.
	began []time.Time
	shown bool // the gauges are not zero
}

func (q *queue) begin() {
	w := q.watcher
	w.lock.Lock()
	defer w.lock.Unlock()
	q.began = append(q.began, time.Now())
	w.arm()
}

// end forgets the item whose beginning fits best to what it took.
func (q *queue) end(seconds float64) {
	w := q.watcher
	w.lock.Lock()
	defer w.lock.Unlock()
	began := time.Now().Add(-time.Duration(seconds * float64(time.Second)))
	best := -1
	for i, t := range q.began {
		if best < 0 || t.Sub(began).Abs() < q.began[best].Sub(began).Abs() {
			best = i
		}
	}
	if best >= 0 {
		last := len(q.began) - 1
		q.began[best] = q.began[last]
		q.began = q.began[:last]
	}
}

// arm is called under the lock.
func (w *watcher) arm() {
	switch {
	case w.armed:
		return
	case w.timer == nil:
		w.timer = time.AfterFunc(w.interval, w.look)
	default:
		w.timer.Reset(w.interval)
	}
	w.armed = true
}

func (w *watcher) look() {
	w.lock.Lock()
	defer w.lock.Unlock()
	w.armed = false
	now := time.Now()
	for _, q := range w.queues {
		if q.show(now) {
			w.arm()
		}
	}
}

// show sets the gauges and says whether they will change.
func (q *queue) show(now time.Time) bool {
	if len(q.began) == 0 && !q.shown {
		return false
	}
	var total, longest time.Duration
	for _, t := range q.began {
		age := now.Sub(t)
		total += age
		longest = max(longest, age)
	}
	q.unfinished.Set(total.Seconds())
	q.longest.Set(longest.Seconds())
	q.shown = len(q.began) > 0
	return q.shown
}
