package kine

import (
	"context"

	"github.com/k3s-io/kine/pkg/server"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// ascending makes watches whole: an event is sent once, in order, and none is left out. kine's own server
// takes both for granted, and ends the process where they do not hold.
type ascending struct{ server.Backend }

func (a *ascending) Watch(ctx context.Context, from int64) server.WatchResult {
	ctx, cancel := context.WithCancel(ctx)
	result := a.Backend.Watch(ctx, from)
	if result.CompactRevision != 0 {
		cancel()
		return result
	}
	events, errs := make(chan server.EventBatch), make(chan error, 1)
	go func() {
		defer cancel()
		defer close(events)
		if err := forward(ctx, from, result, events); err != nil {
			errs <- err
		}
	}()
	return server.WatchResult{CurrentRevision: result.CurrentRevision, Eventc: events, Errorc: errs}
}

// forward passes events on until the watch ends, and says why where it is not the watcher's doing.
func forward(ctx context.Context, from int64, result server.WatchResult, events chan<- server.EventBatch) error {
	sent := from - 1 // the revision that the watcher has seen
	for first := true; ; first = false {
		var batch server.EventBatch
		var more bool
		select {
		case batch, more = <-result.Eventc:
		case <-ctx.Done():
			return nil
		}
		if !more {
			break
		}
		if first && from > 0 && cutOff(sent, batch) {
			return status.Error(codes.Unavailable, "the database ended the list of past events early")
		}
		batch = batch.After(sent)
		if n := len(batch.Events); n > 0 {
			sent = batch.Events[n-1].KV.ModRevision
		}
		select {
		case events <- batch:
		case <-ctx.Done():
			return nil
		}
	}
	select {
	case err := <-result.Errorc:
		return err
	default:
		return nil
	}
}

// cutOff says whether the past that a watch begins with lacks its end, as it does where the connection to
// the database broke while it was read: kine takes what it has for all. The newest event of the past is
// the one of the current revision.
func cutOff(seen int64, past server.EventBatch) bool {
	if past.CurrentRev <= seen {
		return false
	}
	n := len(past.Events)
	return n == 0 || past.Events[n-1].KV.ModRevision < past.CurrentRev
}
