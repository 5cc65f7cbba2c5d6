package work

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/annex-api/annex/bench/internal/fixture"
	"github.com/annex-api/annex/bench/internal/host"
)

// watches holds many idle watches of one proxied resource and tells what each
// of them costs in memory.
type watches struct{}

const (
	watchLimit  = 2 * time.Minute
	openAtATime = 32
)

func (watches) Name() string { return "proxied-watches" }

func (watches) Layer() bool { return true }

func (watches) Run(ctx context.Context, h *host.Host, c Config) ([]Metric, error) {
	before, err := h.Settle(ctx)
	if err != nil {
		return nil, err
	}
	cpuBefore, err := h.Server.CPU()
	if err != nil {
		return nil, err
	}
	opened, cancel := context.WithCancel(ctx)
	bodies, err := open(opened, h, c.Watches)
	end := sync.OnceFunc(func() {
		cancel()
		for _, b := range bodies {
			b.Close() // The watch is over either way.
		}
	})
	defer end()
	if err != nil {
		return nil, err
	}
	cpuAfter, err := h.Server.CPU()
	if err != nil {
		return nil, err
	}
	after, err := h.Settle(ctx)
	if err != nil {
		return nil, err
	}
	if err := profileHeap(ctx, h, c.Profiles, "watches"); err != nil {
		return nil, err
	}
	cpuHeld, err := h.Server.CPU()
	if err != nil {
		return nil, err
	}
	end()
	if err := h.Calm(ctx); err != nil {
		return nil, err
	}
	cpuEnded, err := h.Server.CPU()
	if err != nil {
		return nil, err
	}
	each := func(bytes int64) float64 { return float64(bytes) / 1024 / float64(c.Watches) }
	return []Metric{
		{Name: "PSS per watch", Unit: "KiB", Value: each(after.PSS - before.PSS), Goal: 0.45},
		{Name: "live per watch", Unit: "KiB", Value: each(after.Live - before.Live), Goal: 0.45},
		{Name: "cpu to open", Unit: "us", Value: micros(cpuAfter-cpuBefore) / float64(c.Watches)},
		{Name: "cpu to end", Unit: "us", Value: micros(cpuEnded-cpuHeld) / float64(c.Watches)},
	}, nil
}

// open opens count watches and waits for the first event of each. What it
// returns is to be closed, also when it errs; the watches end with ctx.
func open(ctx context.Context, h *host.Host, count int) ([]io.ReadCloser, error) {
	// The limit is on opening: a context with a deadline would end the watches too.
	ctx, cancel := context.WithCancelCause(ctx)
	limit := time.AfterFunc(watchLimit, func() {
		cancel(fmt.Errorf("not all of %d watches were open after %v", count, watchLimit))
	})
	defer limit.Stop()
	bodies := make([]io.ReadCloser, count)
	var wg sync.WaitGroup
	for w := range openAtATime {
		wg.Go(func() {
			for i := w; i < count && ctx.Err() == nil; i += openAtATime {
				var err error
				if bodies[i], err = openOne(ctx, h); err != nil {
					cancel(err) // The first cause counts.
				}
			}
		})
	}
	wg.Wait()
	bodies = slices.DeleteFunc(bodies, func(b io.ReadCloser) bool { return b == nil })
	return bodies, context.Cause(ctx)
}

func openOne(ctx context.Context, h *host.Host) (io.ReadCloser, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, h.URL+fixture.Path(0)+"?watch=1&resourceVersion=1000", nil)
	if err != nil {
		return nil, fmt.Errorf("making a watch: %w", err)
	}
	resp, err := h.Client.Do(r)
	if err != nil {
		return nil, fmt.Errorf("opening a watch: %w", err)
	}
	want := fixture.Bookmark(fixture.Group(0))
	got := make([]byte, len(want))
	if _, err := io.ReadFull(resp.Body, got); err != nil || resp.StatusCode != http.StatusOK || !bytes.Equal(got, want) {
		resp.Body.Close()
		return nil, fmt.Errorf("opening a watch: status %d, first event %.200q, error %v", resp.StatusCode, got, err)
	}
	return resp.Body, nil
}
