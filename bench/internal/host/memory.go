package host

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/annex-api/annex/bench/internal/process"
)

// Memory is what a server holds after its garbage was collected, in bytes.
type Memory struct {
	process.Memory
	Live int64 // heap and stacks in use, as the Go runtime of the server counts them
}

const (
	settleInterval = time.Second
	settleLimit    = 20 * time.Second
	settled        = 0.005 // relative change of PSS in one interval
)

// Settle makes the server collect its garbage and waits, for settleLimit at
// most, until it has given the free memory back to the kernel. It needs the
// server's profiling, which is on by default.
func (h *Host) Settle(ctx context.Context) (Memory, error) {
	return Settle(ctx, h.Server, func(ctx context.Context) ([]byte, error) { return h.Get(ctx, HeapProfile, nil) })
}

// HeapProfile is the path of a profile before which garbage is collected.
const HeapProfile = "/debug/pprof/heap?gc=1&debug=1"

// Settle does the same for any process; heap asks it for the HeapProfile.
func Settle(ctx context.Context, p *process.Process, heap func(context.Context) ([]byte, error)) (Memory, error) {
	var m Memory
	// Pools are emptied by the second collection.
	for range 2 {
		profile, err := heap(ctx)
		if err != nil {
			return m, fmt.Errorf("collecting the server's garbage: %w", err)
		}
		if m.Live, err = parseLive(string(profile)); err != nil {
			return m, fmt.Errorf("reading the server's heap profile: %w", err)
		}
	}
	tick := time.NewTicker(settleInterval)
	defer tick.Stop()
	for began := time.Now(); ; {
		before := m.PSS
		var err error
		if m.Memory, err = p.Memory(); err != nil {
			return m, err
		}
		change := float64(m.PSS - before)
		if max(change, -change) < settled*float64(m.PSS) || time.Since(began) > settleLimit {
			return m, nil
		}
		select {
		case <-ctx.Done():
			return m, ctx.Err()
		case <-tick.C:
		}
	}
}

// parseLive adds the two values of the memory statistics at a heap profile's end.
func parseLive(profile string) (int64, error) {
	var sum int64
	for _, name := range []string{"\n# HeapInuse = ", "\n# Stack = "} {
		_, rest, ok := strings.Cut(profile, name)
		if !ok {
			return 0, fmt.Errorf("no line %q", strings.TrimSpace(name))
		}
		number := rest[:strings.IndexFunc(rest+"\n", func(r rune) bool { return r < '0' || r > '9' })]
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("line %q: %w", strings.TrimSpace(name), err)
		}
		sum += n
	}
	return sum, nil
}
