package store

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/go-logr/logr"
)

const (
	// A probe that is not answered within probeTimeout has failed.
	probeTimeout = 2 * time.Second
	// Pauses between probes, while they are answered and while not.
	probeEvery      = 2 * time.Second
	probeAgainAfter = 500 * time.Millisecond
	// openingPause is between probes in the first probeAgainAfter: a database that is being opened, which
	// takes a moment, is not an absent one.
	openingPause = 10 * time.Millisecond
	// awayAfter is how many probes in a row must fail until requests are refused: one may be bad luck.
	awayAfter = 2
)

// reach knows whether the storage answers. It asks on a goroutine of its own.
type reach struct {
	name  string
	log   logr.Logger
	check func(context.Context) error
	// first is called once, when the storage answers for the first time; it is tried until it succeeds.
	first func(context.Context) error

	end  context.CancelFunc
	done chan struct{}

	mu     sync.Mutex
	failed int   // probes in a row
	err    error // of the last probe; nil if it was answered
	// up ends, with the reason, when the storage is found away. It is replaced when the storage is back.
	up   context.Context
	down context.CancelCauseFunc
}

func startReach(log logr.Logger, name string, check, first func(context.Context) error) *reach {
	ctx, end := context.WithCancel(context.Background())
	r := &reach{name: name, log: log, check: check, first: first, end: end, done: make(chan struct{})}
	r.err = fmt.Errorf("%s has not answered yet", name)
	r.up, r.down = context.WithCancelCause(context.Background())
	go func() {
		defer close(r.done)
		r.run(ctx)
	}()
	return r
}

func (r *reach) stop() {
	r.end()
	<-r.done
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down(context.Canceled)
}

func (r *reach) run(ctx context.Context) {
	begun := time.Now()
	for known := false; ; {
		err := r.probe(ctx, r.check)
		if err == nil && !known {
			err = r.probe(ctx, r.first)
			known = err == nil
		}
		if ctx.Err() != nil {
			return
		}
		pause := probeEvery
		switch {
		case err == nil:
			r.found(nil)
		case !known && time.Since(begun) < probeAgainAfter:
			r.notYet(err)
			pause = openingPause
		default:
			r.found(err)
			pause = probeAgainAfter
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

func (r *reach) probe(ctx context.Context, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	return ask(ctx)
}

// notYet takes in why the storage does not answer while it is being opened.
func (r *reach) notYet(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = fmt.Errorf("%s does not answer: %w", r.name, err)
}

// found takes in the outcome of a probe.
func (r *reach) found(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	wasAway := r.failed >= awayAfter
	if err == nil {
		r.failed, r.err = 0, nil
		if wasAway {
			r.up, r.down = context.WithCancelCause(context.Background())
			r.log.Info("Storage answers again", "storage", r.name)
		}
		return
	}
	r.failed, r.err = r.failed+1, fmt.Errorf("%s does not answer: %w", r.name, err)
	if r.failed == awayAfter {
		r.down(err)
		r.log.Error(err, "Storage does not answer", "storage", r.name)
	}
}

// ready is nil if the last probe was answered.
func (r *reach) ready() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// awayError says why the storage counts as away; nil if it does not.
func (r *reach) awayError() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed < awayAfter {
		return nil
	}
	return r.err
}

// bound gives a context that also ends when the storage is found away. The function is to be called
// when the work is done.
func (r *reach) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	r.mu.Lock()
	up := r.up
	r.mu.Unlock()
	bounded, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(up, func() { cancel(context.Cause(up)) })
	return bounded, func() {
		stop()
		cancel(nil)
	}
}
