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

// Rest says that servers do this side by side.
func (idle) Rest() bool { return true }

func (i idle) Run(ctx context.Context, h *host.Host, c Config) ([]Metric, error) {
	cpu, err := idling(ctx, h, c, i.Name())
	if err != nil {
		return nil, err
	}
	m, err := h.Server.Memory()
	if err != nil {
		return nil, err
	}
	metrics := []Metric{
		{Name: "cpu", Unit: "ms/s", Value: cpu, Goal: 0.6},
		{Name: "PSS", Unit: "MiB", Value: float64(m.PSS) / mebibyte, Goal: 1.1},
		{Name: "RSS", Unit: "MiB", Value: float64(m.RSS) / mebibyte},
	}
	if h.EmptyIdle > 0 {
		metrics = append(metrics, Metric{Name: "cpu for APIServices", Unit: "ms/s", Value: max(cpu-h.EmptyIdle, 0)})
	}
	return metrics, nil
}

// emptyIdle is what a server without APIServices costs.
type emptyIdle struct{}

func (emptyIdle) Name() string { return "idle-empty" }

func (emptyIdle) Layer() bool { return false }

// Rest says that servers do this side by side.
func (emptyIdle) Rest() bool { return true }

// Before says that this work is done before APIServices are registered.
func (emptyIdle) Before() bool { return true }

func (e emptyIdle) Run(ctx context.Context, h *host.Host, c Config) ([]Metric, error) {
	cpu, err := idling(ctx, h, c, e.Name())
	h.EmptyIdle = cpu
	return []Metric{{Name: "cpu", Unit: "ms/s", Value: cpu}}, err
}

// longestRest is what is waited at most before idling is measured, in seconds.
const longestRest = 10

// idling is the processor time in ms/s while nobody asks, after a collection of
// garbage and a rest: what is left to do from before is not idling.
func idling(ctx context.Context, h *host.Host, c Config, name string) (float64, error) {
	if _, err := h.Settle(ctx); err != nil {
		return 0, err
	}
	if err := pause(ctx, min(c.IdleSeconds/2, longestRest)); err != nil {
		return 0, err
	}
	finish := profile(ctx, h, c.Profiles, name, c.IdleSeconds)
	used, err := h.Idle(ctx, time.Duration(c.IdleSeconds)*time.Second)
	return used, errors.Join(err, finish())
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
