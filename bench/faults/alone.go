package main

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/annex-api/annex/bench/internal/fixture"
	"github.com/annex-api/annex/bench/internal/load"
	"github.com/annex-api/annex/bench/internal/namespace"
)

// builtin are GETs of an object that is in the server's own storage.
func (s *stage) builtin(user string) load.Requests {
	return load.Requests{
		Clients: s.client(connections), New: s.get(user, "/api/v1/namespaces/"+fixture.Namespace+"/configmaps/one"),
		Good: http.StatusOK, Timeout: clientLimit,
	}
}

// onlyFrozen: one user's clients all wait for a frozen extension server, while
// another user reads what is built in.
func onlyFrozen(ctx context.Context, s *stage, short bool) (outcome, error) {
	return s.floodFrozen(ctx, short, 0, func(t load.Tally) bool { return t.Percentile(99) < 50*time.Millisecond })
}

// heedlessFlood: the same, and these clients ask again at once, whatever they are told.
func heedlessFlood(ctx context.Context, s *stage, short bool) (outcome, error) {
	return s.floodFrozen(ctx, short, 50*time.Millisecond, func(t load.Tally) bool { return t.Percentile(50) < 50*time.Millisecond })
}

func (s *stage) floodFrozen(ctx context.Context, short bool, again time.Duration, timely func(load.Tally) bool) (outcome, error) {
	clients, rate, length := 3000, 100, 20*time.Second
	if short {
		clients, length = 1000, 8*time.Second
	}
	// So many streams a connection may have.
	const streams = 100
	if err := s.startAll(ctx, 1); err != nil {
		return outcome{}, err
	}
	if err := s.serving(ctx, ready(s.replicas...)); err != nil {
		return outcome{}, err
	}
	flood := s.gets(loud)
	flood.Again = again
	flood.Clients = s.client(clients / streams)
	requests := s.builtin(quiet)
	frozen := s.replicas[0].process
	if err := frozen.Freeze(); err != nil {
		return outcome{}, err
	}
	before, err := s.Server.CPU()
	if err != nil {
		return outcome{}, errors.Join(err, frozen.Resume())
	}
	var flooded load.Tally
	tally, err := during(ctx, func(ctx context.Context) (load.Tally, error) {
		return load.Open(ctx, requests, rate, length)
	}, func(ctx context.Context) error {
		var err error
		flooded, err = load.Closed(ctx, flood, clients, length)
		return err
	})
	used, cpuErr := s.Server.CPU()
	if err := errors.Join(err, cpuErr, frozen.Resume()); err != nil {
		return outcome{}, err
	}
	out := outcome{
		tally: tally, counted: tally.Failed == 0, timely: timely(tally),
		measures: []measure{
			{Name: "processor time of the server", Value: (used - before).Seconds(), Unit: "s"},
			{Name: "median of the flood's answers", Value: millis(flooded.Percentile(50)), Unit: "ms"},
		},
	}
	out.add("the flood's requests", flooded)
	return out, nil
}

// fault is something that happens to one replica, and its end.
type fault struct {
	begin, end func(ctx context.Context, r *replica) error
	// rate is how many GETs a second go on all the while; 0 for none.
	rate int
	// How soon the condition is to tell of the beginning and of the end.
	falseGoal, trueGoal time.Duration
}

// onlyDies: killed, and started again.
func onlyDies(ctx context.Context, s *stage, short bool) (outcome, error) {
	return s.only(ctx, short, fault{
		begin:     func(_ context.Context, r *replica) error { return r.process.Kill() },
		end:       func(ctx context.Context, r *replica) error { return r.start(ctx) },
		falseGoal: 2 * time.Second, trueGoal: time.Second,
	})
}

// onlyCut: it lives, and none of its packets arrive. Only who talks to it can
// tell, so it is in use.
func onlyCut(ctx context.Context, s *stage, short bool) (outcome, error) {
	return s.only(ctx, short, fault{
		begin:     func(ctx context.Context, r *replica) error { return namespace.Drop(ctx, r.host) },
		end:       func(ctx context.Context, _ *replica) error { return namespace.Restore(ctx) },
		rate:      10,
		falseGoal: 8 * time.Second, trueGoal: 3 * time.Second,
	})
}

// only measures how long it takes until the condition tells of a fault of the
// only replica, and whether discovery keeps the resources meanwhile. Of several
// faults and returns the one that took longest counts.
func (s *stage) only(ctx context.Context, short bool, f fault) (outcome, error) {
	rounds := 2
	if short {
		rounds = 1
	}
	if err := s.startAll(ctx, 1); err != nil {
		return outcome{}, err
	}
	if err := s.serving(ctx, ready(s.replicas...)); err != nil {
		return outcome{}, err
	}
	// Somebody has used it: connections exist.
	requests := s.gets(quiet)
	if err := warm(ctx, requests); err != nil {
		return outcome{}, err
	}
	seen := seen{kept: true, marked: true, restored: true}
	watch := func(ctx context.Context) error {
		for range rounds {
			if err := s.round(ctx, f, &seen); err != nil {
				return err
			}
		}
		return nil
	}
	var err error
	if f.rate == 0 {
		err = watch(ctx)
	} else {
		err = s.inUse(ctx, requests, f.rate, watch)
	}
	return outcome{
		counted: seen.kept && seen.marked && seen.restored,
		timely:  seen.ill < f.falseGoal && seen.well < f.trueGoal,
		measures: []measure{
			{Name: "False after", Value: seen.ill.Seconds(), Unit: "s"},
			{Name: "True after", Value: seen.well.Seconds(), Unit: "s"},
			{Name: "resources kept", Value: oneIf(seen.kept)},
			{Name: "marked Stale", Value: oneIf(seen.marked)},
		},
	}, err
}

// seen is what the worst round of a fault showed.
type seen struct {
	ill, well              time.Duration
	kept, marked, restored bool
}

func oneIf(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// round is one fault and its end.
func (s *stage) round(ctx context.Context, f fault, w *seen) error {
	only := s.replicas[0]
	if err := f.begin(ctx, only); err != nil {
		return err
	}
	ill, lost, err := s.tells(ctx, "False")
	if err != nil {
		return err
	}
	// The document may follow the condition by a little.
	fresh, err := s.settles(ctx, readyLimit, stale)
	if err != nil {
		return err
	}
	w.kept = w.kept && !lost && fresh != gone
	w.marked = w.marked && fresh == stale
	if err := f.end(ctx, only); err != nil {
		return err
	}
	well, _, err := s.tells(ctx, "True")
	if err != nil {
		return err
	}
	w.ill, w.well = max(w.ill, ill), max(w.well, well)
	fresh, err = s.settles(ctx, readyLimit, current)
	w.restored = w.restored && fresh == current
	return err
}

// inUse sends requests until a script ends. Nothing counts them: while there is
// nobody to answer they fail.
func (s *stage) inUse(ctx context.Context, requests load.Requests, rate int, script func(context.Context) error) error {
	loaded, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		_, err := load.Open(loaded, requests, rate, 4*readyLimit)
		ended <- err
	}()
	err := script(ctx)
	stop()
	if loadErr := <-ended; loadErr != nil && !errors.Is(loadErr, context.Canceled) {
		err = errors.Join(err, loadErr)
	}
	return err
}

// tells waits until the condition has a status, and says how long that took and
// whether the resources were lost from discovery meanwhile.
func (s *stage) tells(ctx context.Context, want string) (took time.Duration, lost bool, err error) {
	began := time.Now()
	err = s.until(ctx, "the condition to be "+want, func(ctx context.Context) (bool, error) {
		status, err := s.available(ctx, 0)
		if err != nil || status == want {
			took = time.Since(began)
			return err == nil, err
		}
		found, err := s.discovered(ctx)
		lost = lost || found == gone
		return false, err
	})
	return took, lost, err
}

// settles is how discovery shows the resources, once it is as wanted or a limit
// has passed.
func (s *stage) settles(ctx context.Context, limit time.Duration, want string) (string, error) {
	for began := time.Now(); ; {
		found, err := s.discovered(ctx)
		if err != nil || found == want || time.Since(began) > limit {
			return found, err
		}
		if err := after(ctx, pollInterval, func() error { return nil }); err != nil {
			return found, err
		}
	}
}
