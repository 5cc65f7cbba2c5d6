package memory

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/k3s-io/kine/pkg/server"
)

// catchUp is how long a compaction waits for watches.
const catchUp = 10 * time.Second

// lateCompaction compacts no event that watches have still to be given: kine's memory feeds all of
// them from one place, which leaves events out where they were compacted before it came to them.
type lateCompaction struct {
	server.Backend

	mu   sync.Mutex
	fed  int64         // the revision that watches were given
	more chan struct{} // closed when fed grows
}

func newLateCompaction(ctx context.Context, running *sync.WaitGroup, backend server.Backend) *lateCompaction {
	c := &lateCompaction{Backend: backend, more: make(chan struct{})}
	first := backend.Watch(ctx, 0)
	running.Go(func() {
		for w := first; ; w = backend.Watch(ctx, 0) {
			c.follow(w)
			if ctx.Err() != nil {
				return
			}
		}
	})
	return c
}

// follow takes notice of what a watch is given, until it ends. Its first answer is not of the
// feed: it says how far the memory is.
func (c *lateCompaction) follow(w server.WatchResult) {
	<-w.Eventc
	for batch := range w.Eventc {
		c.mu.Lock()
		if batch.CurrentRev > c.fed {
			c.fed = batch.CurrentRev
			close(c.more)
			c.more = make(chan struct{})
		}
		c.mu.Unlock()
	}
}

// Compact waits until watches have come to the revision. The error is for a later attempt.
func (c *lateCompaction) Compact(ctx context.Context, revision int64) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, catchUp)
	defer cancel()
	current, err := c.CurrentRevision(ctx)
	if err != nil {
		return 0, err
	}
	for revision <= current {
		c.mu.Lock()
		fed, more := c.fed, c.more
		c.mu.Unlock()
		if fed >= revision {
			break
		}
		select {
		case <-more:
		case <-ctx.Done():
			return 0, fmt.Errorf("compact revision %d: watches are at %d: %w", revision, fed, ctx.Err())
		}
	}
	return c.Backend.Compact(ctx, revision)
}
