package memory

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/k3s-io/kine/pkg/server"
)

// behind is a memory at revision 9 whose watches are given events when the test says so.
type behind struct {
	server.Backend
	feed      chan server.EventBatch
	compacted int64
}

func (b *behind) CurrentRevision(context.Context) (int64, error) { return 9, nil }

func (b *behind) Watch(ctx context.Context, _ int64) server.WatchResult {
	events := make(chan server.EventBatch)
	go func() {
		defer close(events)
		for batch := (server.EventBatch{CurrentRev: 9}); ; { // how far the memory is, then the feed
			select {
			case events <- batch:
			case <-ctx.Done():
				return
			}
			select {
			case batch = <-b.feed:
			case <-ctx.Done():
				return
			}
		}
	}()
	return server.WatchResult{Eventc: events}
}

func (b *behind) Compact(_ context.Context, revision int64) (int64, error) {
	b.compacted = revision
	return revision, nil
}

func TestCompactionsWaitForWatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		defer running.Wait()
		defer cancel()
		b := &behind{feed: make(chan server.EventBatch)}
		c := newLateCompaction(ctx, &running, b)
		ended := make(chan error, 1)
		go func() {
			_, err := c.Compact(ctx, 7)
			ended <- err
		}()
		b.feed <- server.EventBatch{CurrentRev: 6}
		synctest.Wait()
		if b.compacted != 0 {
			t.Fatal("events are compacted that watches were not given")
		}
		b.feed <- server.EventBatch{CurrentRev: 7}
		if err := <-ended; err != nil || b.compacted != 7 {
			t.Errorf("compacted %d, %v", b.compacted, err)
		}
		if _, err := c.Compact(ctx, 8); !errors.Is(err, context.DeadlineExceeded) || b.compacted != 7 {
			t.Errorf("watches that never come: compacted %d, %v", b.compacted, err)
		}
		// Of a revision that is not there yet the memory itself says so.
		if _, err := c.Compact(ctx, 10); err != nil || b.compacted != 10 {
			t.Errorf("a revision of the future: compacted %d, %v", b.compacted, err)
		}
	})
}
