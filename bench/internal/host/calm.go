package host

import (
	"context"
	"time"
)

const (
	calmInterval = time.Second
	calmLimit    = time.Minute
	calmCost     = 50 // ms/s
)

// Calm waits until the server has done what goes on after it was asked for
// something, ending watches for one; for a minute at most.
func (h *Host) Calm(ctx context.Context) error {
	for began := time.Now(); ; {
		used, err := h.Idle(ctx, calmInterval)
		if err != nil || used < calmCost || time.Since(began) > calmLimit {
			return err
		}
	}
}

// Idle lets the server alone for a while and returns the processor time that it
// takes, in milliseconds a second.
func (h *Host) Idle(ctx context.Context, over time.Duration) (float64, error) {
	before, err := h.Server.CPU()
	if err != nil {
		return 0, err
	}
	began := time.Now()
	select {
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-time.After(over):
	}
	after, err := h.Server.CPU()
	return float64((after - before).Microseconds()) / 1000 / time.Since(began).Seconds(), err
}
