package serving

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// store keeps a chain. One caller at a time.
type store interface {
	// load gives what is kept; nothing if there is nothing, and errDiscarded if another one
	// is to be made whatever was kept.
	load(ctx context.Context) (map[string][]byte, error)
	// save keeps data in place of what load gave last; errConflict if that is no
	// longer there.
	save(ctx context.Context, data map[string][]byte) error
	String() string
}

var (
	errConflict  = errors.New("somebody else was faster")
	errDiscarded = errors.New("what is kept is to be discarded")
)

// permanent marks an error that does not go away by waiting.
type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

func temporary(err error) bool {
	var p permanent
	return !errors.As(err, &p)
}

// keeper makes and renews what a store keeps.
type keeper struct {
	options Options
	store   store
	pause   time.Duration
	last    *chain
}

// attempts bounds how often another replica may be faster in one look.
const attempts = 5

func (k *keeper) refresh(ctx context.Context) (shown, time.Duration, error) {
	var err error
	for range attempts {
		var c *chain
		var done []step
		if c, done, err = k.settle(ctx); errors.Is(err, errConflict) {
			continue // what the winner has kept is taken over
		}
		if err != nil {
			break
		}
		for _, s := range done {
			k.options.Log.Info("Serving certificate: "+s.String(), "kept in", k.store.String(), "valid until", c.serving.leaf.NotAfter, "CA valid until", c.ca.leaf.NotAfter)
		}
		k.last = c
		now := time.Now()
		_, again := k.options.due(c, now)
		return shown{c.serving.cert, c.serving.key, c.bundle()}, min(again.Sub(now), k.pause), nil
	}
	return shown{}, 0, fmt.Errorf("%s: %w", k.store, err)
}

// settle loads the chain, does what is due, and saves it.
func (k *keeper) settle(ctx context.Context) (*chain, []step, error) {
	data, err := k.store.load(ctx)
	discarded := errors.Is(err, errDiscarded)
	if discarded {
		k.options.Log.Info("The serving certificate and its CA are discarded, and replaced at once", "kept in", k.store.String())
		data, err = nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	c, err := decode(data)
	if errors.Is(err, errForeign) {
		return nil, nil, permanent{err}
	}
	if err != nil {
		k.options.Log.Info("The serving certificate that was kept is broken, and is replaced", "kept in", k.store.String(), "reason", err.Error())
	}
	// Clients trust the last chain: who has lost it gets it back.
	restore := c == nil && k.last != nil && !discarded
	if restore {
		c = k.last
	}
	now := time.Now()
	var done []step
	for range attempts { // with a life of seconds there may always be something due
		s, _ := k.options.due(c, now)
		if s == keep {
			break
		}
		if c, err = k.options.take(s, c, now); err != nil {
			return nil, nil, err
		}
		done = append(done, s)
	}
	if len(done) == 0 && !restore {
		return c, nil, nil
	}
	return c, done, k.store.save(ctx, c.encode())
}

// memory keeps a chain as long as the process lives.
type memory struct{ data map[string][]byte }

func (m *memory) load(context.Context) (map[string][]byte, error) { return m.data, nil }

func (m *memory) save(_ context.Context, data map[string][]byte) error {
	m.data = data
	return nil
}

func (*memory) String() string { return "memory" }
