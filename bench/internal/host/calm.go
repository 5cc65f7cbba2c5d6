package host

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	calmInterval = time.Second
	calmLimit    = time.Minute
	calmCost     = 50 // ms/s

	// slice is the step in which idling is measured, and lent the time that a
	// machine below this one may take within it, from all processors together.
	slice = time.Second
	lent  = 20 * time.Millisecond
	// patience is how many times as long as asked for idling is measured while
	// slices are lost.
	patience = 2
)

// Calm waits until the server has done what goes on after it was asked for
// something, ending watches for one; for a minute at most.
func (h *Host) Calm(ctx context.Context) error {
	for began := time.Now(); ; {
		used, took, err := h.step(ctx, calmInterval)
		if err != nil || perSecond(used, took) < calmCost || time.Since(began) > calmLimit {
			return err
		}
	}
}

// Idle lets the server alone for a while and returns the processor time that it
// takes, in milliseconds a second. Where the machine is a guest, seconds in which
// its host took the processors away are left out, and others waited for: the
// kernel books that time on whoever was running. Where hardly any second is
// clean, all count.
func (h *Host) Idle(ctx context.Context, over time.Duration) (float64, error) {
	var clean, all struct{ used, took time.Duration }
	for all.took < patience*over && clean.took < over {
		stolen, err := stolenTime()
		if err != nil {
			return 0, err
		}
		used, took, err := h.step(ctx, min(slice, over))
		if err != nil {
			return 0, err
		}
		all.used, all.took = all.used+used, all.took+took
		after, err := stolenTime()
		if err != nil {
			return 0, err
		}
		if after-stolen <= lent {
			clean.used, clean.took = clean.used+used, clean.took+took
		}
	}
	if clean.took < over/2 {
		return perSecond(all.used, all.took), nil
	}
	return perSecond(clean.used, clean.took), nil
}

func (h *Host) step(ctx context.Context, over time.Duration) (used, took time.Duration, err error) {
	before, err := h.Server.CPU()
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	select {
	case <-ctx.Done():
		return 0, 0, ctx.Err()
	case <-time.After(over):
	}
	after, err := h.Server.CPU()
	return after - before, time.Since(began), err
}

func perSecond(used, took time.Duration) float64 {
	return float64(used.Microseconds()) / 1000 / took.Seconds()
}

// stolenTime is how long, over all processors and since the start, this machine's host
// ran something else while this machine had work to do.
func stolenTime() (time.Duration, error) {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, fmt.Errorf("reading the machine's stolen time: %w", err)
	}
	return parseStolen(string(data))
}

// parseStolen reads the eighth number of the first line of /proc/stat, in
// hundredths of a second.
func parseStolen(stat string) (time.Duration, error) {
	line, _, _ := strings.Cut(stat, "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return 0, fmt.Errorf("reading the machine's stolen time: /proc/stat begins with %q", line)
	}
	ticks, err := strconv.ParseInt(fields[8], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("reading the machine's stolen time: %w", err)
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}
