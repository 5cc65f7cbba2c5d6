// Package refresh calls a function that lists all objects of a kind whenever it
// should, and hands on what it answers.
package refresh

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/klog/v2"
)

const (
	// DefaultStale is how long List may fail before its last answer is withdrawn.
	DefaultStale = time.Minute

	// burst is how long wakes are gathered before List is called for them.
	burst = 10 * time.Millisecond
	// firstRetry and lastRetry bound the pause after List failed. It doubles in between.
	firstRetry, lastRetry = time.Second, 30 * time.Second
	// farewell is how long Run waits for a List that goes on although its context has ended.
	farewell = 5 * time.Second
)

// Target takes what List answers. ring.Storage is one.
type Target interface {
	// Update makes objects all that there is. An error refuses them.
	Update(objects []runtime.Object) error
	// Unavailable withdraws the last answer until the next Update.
	Unavailable(problem error)
}

// Config says what to call, and when.
type Config struct {
	// List gives all objects. It is never called twice at a time. Its context ends
	// after Stale.
	List func(ctx context.Context) ([]runtime.Object, error)
	// Changed wakes List; a burst costs one call. A wake that comes during a call costs one
	// more after it, which sees what the wake is about. Whoever sends is not held up by List.
	Changed <-chan struct{}
	// Every is how often List is called without being woken; zero means never.
	Every time.Duration
	// Stale is how long List may fail before the last answer is withdrawn; zero means
	// DefaultStale.
	Stale time.Duration
	// Demand has List called only while somebody reads; nil has it called always. Every is the
	// same as there.
	Demand *Demand
	// Target takes the answers.
	Target Target
}

// Run calls List once at the start, and then as told, until ctx ends. A List that fails is called
// again after a pause that grows. A panic in it is an error. Run comes back when the
// last call has, or 5 seconds later.
func Run(ctx context.Context, config Config) {
	if config.Stale <= 0 {
		config.Stale = DefaultStale
	}
	r := &run{Config: config, log: klog.FromContext(ctx)}
	r.loop(ctx)
}

// run is the state of Run's loop, which alone uses it.
type run struct {
	Config
	log klog.Logger

	// calling gets the answer of the call that is going on; nil if there is none.
	calling chan answer
	// woken says that a call is wanted because of Changed.
	woken bool
	// began is when the last call began.
	began time.Time
	// failures counts the calls that failed since the last that did not.
	failures int
	// failing is when the first of them began, or the one that is going on; zero while all is well.
	failing time.Time
	// withdrawn says that the last answer no longer counts.
	withdrawn bool
	// lastError is what the last call failed with.
	lastError error
}

func (r *run) loop(ctx context.Context) {
	// next is when List is called unless something is before it.
	next := time.NewTimer(0)
	defer next.Stop()
	stale := time.NewTimer(r.Stale)
	defer stale.Stop()
	changed := r.Changed
	var asked <-chan struct{} // by readers
	if r.Demand != nil {
		asked = r.Demand.wake
	}
	for {
		select {
		case <-ctx.Done():
			r.wait()
			return
		case _, open := <-changed:
			if !open {
				changed = nil
				continue
			}
			if r.Demand != nil {
				if r.Demand.changed(); !r.Demand.wanted() {
					continue
				}
			}
			if !r.woken && r.calling == nil {
				next.Reset(burst)
			}
			r.woken = true
		case <-asked:
			if wait, ever := r.Demand.due(time.Now()); ever && r.calling == nil && r.failures == 0 {
				next.Reset(wait)
			}
		case <-next.C:
			switch {
			case r.calling != nil:
			case r.Demand == nil, r.failures > 0, r.Demand.wanted():
				r.begin(ctx, stale)
			default:
				r.woken = false // whoever reads next has it called
			}
		case a := <-r.calling:
			r.end(a, stale)
			if pause, ok := r.pause(); ok {
				next.Reset(pause)
			}
		case <-stale.C:
			r.withdraw()
		}
	}
}

// begin calls List in a goroutine that loop waits for.
func (r *run) begin(ctx context.Context, stale *time.Timer) {
	r.woken, r.began = false, time.Now()
	if r.Demand != nil {
		r.Demand.begun()
	}
	if r.failing.IsZero() {
		r.failing = r.began
		stale.Reset(r.Stale)
	}
	done := make(chan answer, 1)
	r.calling = done
	go func() {
		a := answer{err: errors.New("its goroutine ended")}
		defer func() { done <- a }()
		a.err = r.guard(func() (err error) {
			ctx, cancel := context.WithTimeout(ctx, r.Stale)
			defer cancel()
			a.objects, err = r.List(ctx)
			return err
		})
	}()
}

// answer is what a call of List came to.
type answer struct {
	objects []runtime.Object
	err     error
}

// guard makes an error of a panic in somebody else's code.
func (r *run) guard(do func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			r.log.Error(fmt.Errorf("%v", p), "List panicked", "stack", string(debug.Stack()))
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return do()
}

// end hands on what a call came to. Update and Unavailable are both called by the
// loop, so that the later one counts.
func (r *run) end(a answer, stale *time.Timer) {
	r.calling = nil
	err := a.err
	if err == nil {
		err = r.guard(func() error { return r.Target.Update(a.objects) })
	}
	if r.Demand != nil {
		r.Demand.end(r.began, err == nil)
	}
	if err == nil {
		r.failures, r.failing, r.withdrawn, r.lastError = 0, time.Time{}, false, nil
		stale.Stop()
		return
	}
	r.failures++
	r.lastError = err
	r.log.Error(err, "Listing failed", "times", r.failures, "since", r.failing)
	if r.withdrawn {
		r.Target.Unavailable(r.problem())
	}
}

// pause is how long to wait for the next call, if there is to be one unasked.
func (r *run) pause() (time.Duration, bool) {
	switch {
	case r.woken:
		return burst, true
	case r.failures > 0:
		retry := min(lastRetry, firstRetry<<min(r.failures-1, 10))
		if r.Every > 0 {
			retry = min(retry, r.Every)
		}
		return retry, true
	case r.Demand != nil:
		return r.Demand.due(time.Now())
	}
	return r.Every, r.Every > 0
}

func (r *run) withdraw() {
	r.withdrawn = true
	r.Target.Unavailable(r.problem())
}

func (r *run) problem() error {
	err := r.lastError
	if err == nil {
		err = errors.New("the call has not come back")
	}
	return fmt.Errorf("listing has failed since %s: %w", r.failing.UTC().Format(time.RFC3339), err)
}

// wait gives the last call time to come back.
func (r *run) wait() {
	if r.calling == nil {
		return
	}
	enough := time.NewTimer(farewell)
	defer enough.Stop()
	select {
	case <-r.calling:
	case <-enough.C:
		r.log.Info("List goes on although its context has ended; it is left alone")
	}
}
