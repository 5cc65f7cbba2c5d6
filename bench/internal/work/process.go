package work

import (
	"context"
	"errors"
	"time"

	"github.com/annex-api/annex/bench/internal/host"
)

// start is the time from the server's start to its first good /readyz.
type start struct{}

func (start) Name() string { return "start" }

func (start) Layer() bool { return false }

func (start) Run(_ context.Context, h *host.Host, _ Config) ([]Metric, error) {
	return []Metric{{Name: "start to ready", Unit: "ms", Value: micros(h.Startup) / 1000, Goal: 1.1}}, nil
}

// idle is what the server costs while nobody asks it anything.
type idle struct{}

func (idle) Name() string { return "idle" }

func (idle) Layer() bool { return false }

func (i idle) Run(ctx context.Context, h *host.Host, c Config) ([]Metric, error) {
	// What registering has left to do is not idling.
	if err := pause(ctx, c.IdleSeconds/2); err != nil {
		return nil, err
	}
	finish := profile(ctx, h, c.Profiles, i.Name(), c.IdleSeconds)
	before, err := h.Server.CPU()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := pause(ctx, c.IdleSeconds); err != nil {
		return nil, err
	}
	after, err := h.Server.CPU()
	err = errors.Join(err, finish())
	if err != nil {
		return nil, err
	}
	m, err := h.Server.Memory()
	if err != nil {
		return nil, err
	}
	return []Metric{
		{Name: "cpu", Unit: "ms/s", Value: micros(after-before) / 1000 / time.Since(began).Seconds(), Goal: 0.3},
		{Name: "PSS", Unit: "MiB", Value: float64(m.PSS) / mebibyte, Goal: 1.1},
		{Name: "RSS", Unit: "MiB", Value: float64(m.RSS) / mebibyte},
	}, nil
}

func pause(ctx context.Context, seconds int) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Duration(seconds) * time.Second):
		return nil
	}
}

// memory is what the server holds at the end of all work.
type memory struct{}

func (memory) Name() string { return "memory-at-end" }

func (memory) Layer() bool { return false }

func (memory) Run(_ context.Context, h *host.Host, _ Config) ([]Metric, error) {
	m, err := h.Server.Memory()
	if err != nil {
		return nil, err
	}
	return []Metric{
		{Name: "PSS", Unit: "MiB", Value: float64(m.PSS) / mebibyte, Goal: 1.1},
		{Name: "RSS", Unit: "MiB", Value: float64(m.RSS) / mebibyte},
	}, nil
}
