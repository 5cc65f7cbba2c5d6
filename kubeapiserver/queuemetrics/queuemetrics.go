// Package queuemetrics keeps the metrics of client-go's work queues without
// waking an idle process.
//
// A named queue of client-go has a goroutine that looks twice a second at how
// long its items have been worked on, busy or not; an API server has two
// dozen of them, most of what wakes it while nobody asks it anything. Here one
// timer looks, and only while a queue works on something. Names, labels and
// meaning of the metrics stay those of k8s.io/component-base, which keeps and
// publishes them.
package queuemetrics

import (
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	_ "unsafe" // for go:linkname

	"k8s.io/client-go/util/workqueue"
	_ "k8s.io/component-base/metrics/prometheus/workqueue" // the provider that is wrapped
)

// client-go takes a provider once only, and k8s.io/component-base has given
// its own by then. Were the variable to go, this one would stay nil and the
// queues as they are, which a test notices.
//
//go:linkname globalMetricsProvider k8s.io/client-go/util/workqueue.globalMetricsProvider
var globalMetricsProvider workqueue.MetricsProvider

// Install serves every named queue that the process creates afterwards. It
// belongs to a program, not to a library, and is called before anything that
// creates queues is started: the process's provider is not guarded by a lock.
// More calls have no effect.
func Install() { install() }

var install = sync.OnceFunc(func() {
	if globalMetricsProvider != nil {
		globalMetricsProvider = provider{globalMetricsProvider, newWatcher(interval)}
	}
})

// provider makes the metrics of the wrapped provider, and tells the watcher
// when a queue begins and ends to work on an item.
type provider struct {
	workqueue.MetricsProvider
	watcher *watcher
}

// NewDepthMetric implements workqueue.MetricsProvider. The depth falls when,
// and only when, an item is handed out.
func (p provider) NewDepthMetric(name string) workqueue.GaugeMetric {
	return depth{p.MetricsProvider.NewDepthMetric(name), p.of(name)}
}

type depth struct {
	workqueue.GaugeMetric
	queue *queue
}

func (d depth) Dec() {
	d.GaugeMetric.Dec()
	d.queue.begin()
}

// NewWorkDurationMetric implements workqueue.MetricsProvider. A duration, in
// seconds, is observed when, and only when, an item is done.
func (p provider) NewWorkDurationMetric(name string) workqueue.HistogramMetric {
	return duration{p.MetricsProvider.NewWorkDurationMetric(name), p.of(name)}
}

type duration struct {
	workqueue.HistogramMetric
	queue *queue
}

func (d duration) Observe(seconds float64) {
	d.HistogramMetric.Observe(seconds)
	d.queue.end(seconds)
}

// NewUnfinishedWorkSecondsMetric implements workqueue.MetricsProvider.
func (p provider) NewUnfinishedWorkSecondsMetric(name string) workqueue.SettableGaugeMetric {
	return &polled{gauge: p.of(name).unfinished}
}

// NewLongestRunningProcessorSecondsMetric implements workqueue.MetricsProvider.
func (p provider) NewLongestRunningProcessorSecondsMetric(name string) workqueue.SettableGaugeMetric {
	return &polled{gauge: p.of(name).longest}
}

func (p provider) of(name string) *queue {
	return p.watcher.of(name, p.MetricsProvider)
}

// polled is a gauge as the queue's own goroutine sees it: the goroutine, which
// does nothing else, ends with its first tick.
type polled struct {
	gauge workqueue.SettableGaugeMetric
	other atomic.Bool // somebody else sets it
}

// Set implements workqueue.SettableGaugeMetric. It does not return to a queue's
// own loop.
func (p *polled) Set(value float64) {
	if !p.other.Load() && calledByLoop() {
		runtime.Goexit() // the loop's deferred calls unlock the queue and tell ShutDown
	}
	p.other.Store(true)
	p.gauge.Set(value)
}

// calledByLoop says whether the goroutine is the one of a queue that only
// looks at its metrics.
func calledByLoop() bool {
	var pcs [16]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs[:])])
	for {
		frame, more := frames.Next()
		if strings.HasPrefix(frame.Function, "k8s.io/client-go/util/workqueue.") &&
			strings.HasSuffix(frame.Function, ".updateUnfinishedWorkLoop") {
			return true
		}
		if !more {
			return false
		}
	}
}
