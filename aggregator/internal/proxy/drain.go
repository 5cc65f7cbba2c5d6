package proxy

import (
	"context"
	"maps"
	"slices"
	"sync"

	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/annex-api/annex/aggregator/internal/backend/balance"
)

// drainer ends the streams of a server that shuts down, as its own watches end:
// cleanly, and before connections are closed under them.
type drainer struct {
	mu      sync.Mutex
	streams map[*balance.Stream]struct{}
	waiting bool // for the signal
	over    bool
}

// hold ends the stream when the server that ctx belongs to shuts down; the
// caller calls forget when it has ended. Contexts without the signal of
// k8s.io/apiserver's filters hold nothing.
func (d *drainer) hold(ctx context.Context, stream *balance.Stream) (forget func()) {
	signal := request.ServerShutdownSignalFrom(ctx)
	if signal == nil {
		return func() {}
	}
	d.mu.Lock()
	if d.over {
		d.mu.Unlock()
		stream.End()
		return func() {}
	}
	defer d.mu.Unlock()
	if d.streams == nil {
		d.streams = map[*balance.Stream]struct{}{}
	}
	d.streams[stream] = struct{}{}
	if !d.waiting {
		d.waiting = true
		// One for all streams; it lasts as long as the server.
		go func() {
			<-signal.ShuttingDown()
			d.end()
		}()
	}
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.streams, stream)
	}
}

func (d *drainer) end() {
	d.mu.Lock()
	d.over = true
	streams := slices.Collect(maps.Keys(d.streams))
	d.mu.Unlock()
	for _, stream := range streams {
		stream.End()
	}
}
