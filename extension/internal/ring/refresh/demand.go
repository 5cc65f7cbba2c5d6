package refresh

import (
	"context"
	"sync"
	"time"
)

// patience is how long a reader waits for an answer that is younger than the last one.
const patience = time.Second

// Demand says whether anybody reads what List answers. While nobody does, List is called no
// more.
type Demand struct {
	every time.Duration
	// wake has the loop look at once.
	wake chan struct{}

	mu      sync.Mutex
	readers int
	// answered is when the call of the last answer began; zero before the first one.
	answered time.Time
	// outdated says that something has changed since.
	outdated bool
	// ended is closed when a call has ended.
	ended chan struct{}
}

// NewDemand takes how old an answer may be that a reader gets; zero means any age.
func NewDemand(every time.Duration) *Demand {
	return &Demand{every: every, wake: make(chan struct{}, 1), ended: make(chan struct{})}
}

// Read begins to read, and waits for an answer that is no older than it may be: for a second
// at most, then the last one has to do. Whoever reads calls done at the end; a second time does
// nothing.
func (d *Demand) Read(ctx context.Context) (done func()) {
	d.mu.Lock()
	d.readers++
	fresh, ended := d.fresh(time.Now()), d.ended
	d.mu.Unlock()
	select {
	case d.wake <- struct{}{}:
	default: // it will look
	}
	if !fresh {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		select {
		case <-ended:
		case <-ctx.Done():
		}
	}
	return sync.OnceFunc(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.readers--
	})
}

func (d *Demand) fresh(now time.Time) bool {
	return !d.answered.IsZero() && !d.outdated && (d.every == 0 || now.Sub(d.answered) < d.every)
}

// wanted says whether List is to be called: for the first answer, and while anybody reads.
func (d *Demand) wanted() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.readers > 0 || d.answered.IsZero()
}

// due is how long the last answer is good for.
func (d *Demand) due(now time.Time) (wait time.Duration, ever bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.readers == 0:
		return 0, false
	case !d.fresh(now):
		return 0, true
	}
	return d.every - now.Sub(d.answered), d.every > 0
}

// changed notes that the last answer is outdated.
func (d *Demand) changed() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.outdated = true
}

// begun notes that a call begins: what changes from now on it may not see.
func (d *Demand) begun() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.outdated = false
}

// end notes that the call that began at a time has ended, and tells who waits.
func (d *Demand) end(began time.Time, answered bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if answered {
		d.answered = began
	} else {
		d.outdated = true
	}
	close(d.ended)
	d.ended = make(chan struct{})
}
