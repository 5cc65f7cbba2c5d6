package work

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/annex-api/annex/bench/internal/fixture"
	"github.com/annex-api/annex/bench/internal/host"
)

// watchEvents holds many watches of one proxied resource, each of which gets
// events at a fixed rate, and tells what an event costs that was delivered.
type watchEvents struct{}

// eventsGrace is how much longer than planned the events may take.
const eventsGrace = time.Minute

func (watchEvents) Name() string { return "watch-events" }

func (watchEvents) Layer() bool { return true }

func (e watchEvents) Run(ctx context.Context, h *host.Host, c Config) (_ []Metric, err error) {
	ctx, cancel := context.WithCancel(ctx)
	bodies, err := open(ctx, h, c.EventWatches)
	defer func() {
		cancel()
		for _, b := range bodies {
			b.Close() // The watch is over either way.
		}
	}()
	if err != nil {
		return nil, err
	}
	if _, err := deliver(ctx, h, bodies, c.EventRate, 1); err != nil {
		return nil, fmt.Errorf("warming up: %w", err)
	}
	finish := profile(ctx, h, c.Profiles, e.Name(), profileSeconds)
	before, err := h.Server.CPU()
	if err != nil {
		return nil, err
	}
	took, err := deliver(ctx, h, bodies, c.EventRate, c.EventSeconds)
	err = errors.Join(err, finish())
	if err != nil {
		return nil, err
	}
	after, err := h.Server.CPU()
	if err != nil {
		return nil, err
	}
	delivered := float64(len(bodies) * c.EventRate * c.EventSeconds)
	return []Metric{
		{Name: "cpu per event", Unit: "us", Value: micros(after-before) / delivered},
		{Name: "delivered", Unit: "", Value: delivered},
		{Name: "took", Unit: "ms", Value: micros(took) / 1000},
	}, nil
}

// deliver makes the extension server send rate events a second to each watch, and
// reads them all: one that is missing or differs is an error. It returns the time
// until the last was read.
func deliver(ctx context.Context, h *host.Host, bodies []io.ReadCloser, rate, seconds int) (time.Duration, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	each := rate * seconds
	var delivered atomic.Int64
	// A read does not end with ctx: what is read from does.
	stop := context.AfterFunc(ctx, func() {
		for _, b := range bodies {
			b.Close() // It is given up.
		}
	})
	defer stop()
	limit := time.Duration(seconds)*time.Second + eventsGrace
	late := time.AfterFunc(limit, func() {
		cancel(fmt.Errorf("only %d of %d events were delivered after %v", delivered.Load(), each*len(bodies), limit))
	})
	defer late.Stop()
	began := time.Now()
	var wg sync.WaitGroup
	want := fixture.Event(fixture.Group(0))
	for _, body := range bodies {
		wg.Go(func() {
			got := make([]byte, len(want))
			for range each {
				if _, err := io.ReadFull(body, got); err != nil {
					cancel(fmt.Errorf("reading an event: %w", err)) // The first cause counts.
					return
				}
				if !bytes.Equal(got, want) {
					cancel(fmt.Errorf("an event is %.200q, want %.200q", got, want))
					return
				}
				delivered.Add(1)
			}
		})
	}
	if err := h.Do(ctx, http.MethodPost, fixture.EmitPath(0, rate, each), limit); err != nil {
		cancel(fmt.Errorf("asking for events: %w", err))
	}
	wg.Wait()
	took := time.Since(began)
	if err := context.Cause(ctx); err != nil {
		return 0, err
	}
	if n := delivered.Load(); n != int64(each*len(bodies)) {
		return 0, fmt.Errorf("%d events were delivered, want %d", n, each*len(bodies))
	}
	return took, nil
}
