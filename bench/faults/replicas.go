package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/annex-api/annex/bench/internal/fixture"
	"github.com/annex-api/annex/bench/internal/load"
	"github.com/annex-api/annex/bench/internal/namespace"
)

// gets are GETs of an object of the extension server, by one user.
func (s *stage) gets(user string) load.Requests {
	return load.Requests{
		Clients: s.client(connections), New: s.get(user, fixture.Path(0)+"/one"), Good: http.StatusOK, Timeout: clientLimit,
	}
}

// warm sends a few requests that must succeed.
func warm(ctx context.Context, requests load.Requests) error {
	t, err := load.Open(ctx, requests, 50, 2*time.Second)
	if err == nil && t.Failed > 0 {
		err = fmt.Errorf("%d of %d requests failed: %v", t.Failed, t.Sent, t.Failures)
	}
	if err != nil {
		return fmt.Errorf("warming up: %w", err)
	}
	return nil
}

// during runs a load with a script beside it; whichever fails ends the other.
func during(ctx context.Context, send func(context.Context) (load.Tally, error), script func(context.Context) error) (load.Tally, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	scripted := make(chan error, 1)
	go func() {
		err := script(ctx)
		if err != nil {
			cancel()
		}
		scripted <- err
	}()
	tally, err := send(ctx)
	if err != nil {
		cancel()
	}
	// The script's error comes first: it is what cancelled the load.
	return tally, errors.Join(<-scripted, err)
}

const (
	told      = 2 * time.Second // how late the endpoints are told
	firstKill = time.Second
	away      = 4 * time.Second // from kill to restart
)

// killedInTurn: kill one, tell the endpoints, restart it, tell them again; then the next.
func killedInTurn(ctx context.Context, s *stage, short bool) (outcome, error) {
	rate, victims := 200, 3
	if short {
		rate, victims = 100, 1
	}
	if err := s.startAll(ctx, 3); err != nil {
		return outcome{}, err
	}
	if err := s.serving(ctx, ready(s.replicas...)); err != nil {
		return outcome{}, err
	}
	length := firstKill + time.Duration(victims)*(away+2*told)
	requests := s.gets(quiet)
	tally, err := during(ctx, func(ctx context.Context) (load.Tally, error) {
		return load.Open(ctx, requests, rate, length)
	}, func(ctx context.Context) error {
		pause := firstKill
		for _, victim := range s.replicas[:victims] {
			others := slices.DeleteFunc(slices.Clone(s.replicas), func(r *replica) bool { return r == victim })
			for _, step := range []struct {
				pause time.Duration
				do    func() error
			}{
				{pause, func() error { return victim.process.Kill() }},
				{told, func() error { return s.publish(ctx, 0, ready(others...)) }},
				{away - told, func() error { return victim.start(ctx) }},
				{told, func() error { return s.publish(ctx, 0, ready(s.replicas...)) }},
			} {
				if err := after(ctx, step.pause, step.do); err != nil {
					return fmt.Errorf("killing and restarting %s: %w", victim.name, err)
				}
			}
			pause = told
		}
		return nil
	})
	return outcome{tally: tally, counted: tally.Failed == 0, timely: true}, err
}

// oneFrozen: frozen before the load begins, and until it has ended.
func oneFrozen(ctx context.Context, s *stage, short bool) (outcome, error) {
	rate, length := 200, 25*time.Second
	if short {
		rate, length = 100, 8*time.Second
	}
	if err := s.startAll(ctx, 3); err != nil {
		return outcome{}, err
	}
	if err := s.serving(ctx, ready(s.replicas...)); err != nil {
		return outcome{}, err
	}
	requests := s.gets(quiet)
	// A good load first: connections to all replicas exist.
	if err := warm(ctx, requests); err != nil {
		return outcome{}, err
	}
	frozen := s.replicas[0].process
	if err := frozen.Freeze(); err != nil {
		return outcome{}, err
	}
	tally, err := load.Open(ctx, requests, rate, length)
	if err := errors.Join(err, frozen.Resume()); err != nil {
		return outcome{}, err
	}
	return few(tally), nil
}

// few: at most 1 % late.
func few(tally load.Tally) outcome {
	const share = 0.01
	return outcome{
		tally:   tally,
		counted: float64(tally.Failed) <= share*float64(tally.Sent), timely: tally.Late() <= share,
		measures: []measure{{Name: "late", Value: 100 * tally.Late(), Unit: "%"}},
	}
}

// oneCut: cut off under load, and back before it ends.
func oneCut(ctx context.Context, s *stage, short bool) (outcome, error) {
	rate, cut, gone, rest := 200, 3*time.Second, 14*time.Second, 8*time.Second
	if short {
		rate, cut, gone, rest = 100, time.Second, 7*time.Second, 2*time.Second
	}
	if err := s.startAll(ctx, 3); err != nil {
		return outcome{}, err
	}
	if err := s.serving(ctx, ready(s.replicas...)); err != nil {
		return outcome{}, err
	}
	requests := s.gets(quiet)
	if err := warm(ctx, requests); err != nil {
		return outcome{}, err
	}
	tally, err := during(ctx, func(ctx context.Context) (load.Tally, error) {
		return load.Open(ctx, requests, rate, cut+gone+rest)
	}, func(ctx context.Context) error {
		if err := after(ctx, cut, func() error { return namespace.Drop(ctx, s.replicas[0].host) }); err != nil {
			return err
		}
		return after(ctx, gone, func() error { return namespace.Restore(ctx) })
	})
	if err != nil {
		return outcome{}, err
	}
	out := few(tally)
	out.counted = tally.Failed == 0
	return out, nil
}

func rolling(ctx context.Context, s *stage, short bool) (outcome, error) {
	return s.roll(ctx, short, true)
}

func rollingUntold(ctx context.Context, s *stage, short bool) (outcome, error) {
	return s.roll(ctx, short, false)
}

// roll replaces each replica by a new one as a Deployment does: the new one is
// ready, then the old one terminates, and ends its watches. If it is announced,
// the endpoints tell that it terminates, and it serves for a while before
// SIGTERM; else they know of SIGTERM only when it is long gone.
func (s *stage) roll(ctx context.Context, short, announced bool) (outcome, error) {
	watches, rate, count := 200, 100, 3
	if short {
		watches, rate, count = 50, 50, 1
	}
	const (
		serve = 4 * time.Second // from terminating to SIGTERM
		grace = 5 * time.Second // from SIGTERM to SIGKILL
		rest  = 2 * time.Second
	)
	args := []string{"-grace=" + grace.String()}
	if err := s.startAll(ctx, 3, args...); err != nil {
		return outcome{}, err
	}
	if err := s.serving(ctx, ready(s.replicas...)); err != nil {
		return outcome{}, err
	}
	held := load.Hold(ctx, load.Watches{Clients: s.client(connections), Count: watches, New: func(ctx context.Context) (*http.Request, error) {
		return s.get(loud, fixture.Path(0)+"?watch=true&resourceVersion=1000")(ctx, 0)
	}})
	if err := held.Until(ctx, watches, readyLimit); err != nil {
		held.Stop()
		return outcome{}, err
	}
	requests := s.gets(quiet)
	tally, err := during(ctx, func(ctx context.Context) (load.Tally, error) {
		return load.Open(ctx, requests, rate, time.Duration(count)*(serve+grace+rest))
	}, func(ctx context.Context) error {
		living := slices.Clone(s.replicas)
		for range count {
			old, successor := living[0], s.replica(args...)
			living = append(living[1:], successor)
			if err := successor.start(ctx); err != nil {
				return err
			}
			if err := s.publish(ctx, 0, append(ready(living...), endpoint{host: old.host, terminating: announced})); err != nil {
				return err
			}
			err := after(ctx, serve, func() error { return old.process.Stop(grace + rest) })
			pause := time.Duration(0)
			if !announced {
				pause = told
			}
			if err == nil {
				err = after(ctx, pause, func() error { return s.publish(ctx, 0, ready(living...)) })
			}
			if err == nil {
				err = after(ctx, rest, func() error { return nil })
			}
			if err != nil {
				return fmt.Errorf("replacing %s: %w", old.name, err)
			}
		}
		return nil
	})
	again := held.Until(ctx, watches, clientLimit)
	open := held.Open()
	w := held.Stop()
	if err != nil {
		return outcome{}, err
	}
	return outcome{
		tally: tally, counted: tally.Failed == 0 && w.Failed() == 0 && again == nil, timely: true,
		measures: []measure{
			{Name: "watches ended well", Value: float64(w.Ended)},
			{Name: "with an error event", Value: float64(w.Errors), Note: w.Example},
			{Name: "broken", Value: float64(w.Broken), Note: w.Example},
			{Name: "refused", Value: float64(w.Refused), Note: w.Example},
			{Name: "open at the end", Value: float64(open)},
		},
	}, nil
}
