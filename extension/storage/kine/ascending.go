package kine

import (
	"context"
	"slices"

	"github.com/k3s-io/kine/pkg/server"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// ascending makes watches ascend: an event is sent once, and in order. kine's own server takes that for
// granted, and ends the process where it does not hold.
type ascending struct{ server.Backend }

// CurrentRevision is asked for the progress of watches alone. That is what they have come to, where the
// database may be further: others write to it.
func (a *ascending) CurrentRevision(ctx context.Context) (int64, error) {
	if b, ok := a.Backend.(interface{ Watched() int64 }); ok {
		if revision := b.Watched(); revision > 0 {
			return revision, nil
		}
	}
	return a.Backend.CurrentRevision(ctx)
}

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
	for {
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
		batch = batch.After(sent)
		// kine's server appends to it, and all watches are given the same events: with room behind them, one
		// would write into what another one sends.
		batch.Events = slices.Clip(batch.Events)
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

// progressing is the stream of watches. kine may tell the progress of a watch after events that are newer,
// and a watch cache would believe to be older than it is: such progress is left out. Send is called by one
// at a time.
type progressing struct {
	etcdserverpb.Watch_WatchServer
	sent map[int64]int64 // the revision that each watch was told
}

func (p *progressing) Send(r *etcdserverpb.WatchResponse) error {
	revision := r.Header.GetRevision()
	switch {
	case r.Canceled:
		delete(p.sent, r.WatchId)
	case r.Created:
		p.sent[r.WatchId] = 0
	case len(r.Events) > 0:
		p.sent[r.WatchId] = max(p.sent[r.WatchId], revision)
	default:
		for id, sent := range p.sent {
			if sent > revision && (r.WatchId == id || r.WatchId == clientv3.InvalidWatchID) {
				return nil
			}
		}
		for id := range p.sent {
			if r.WatchId == id || r.WatchId == clientv3.InvalidWatchID {
				p.sent[id] = revision
			}
		}
	}
	return p.Watch_WatchServer.Send(r)
}
