package main

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/annex-api/annex/bench/internal/fixture"
	"github.com/annex-api/annex/bench/internal/load"
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
	flood.Clients = s.client(clients / streams)
	requests := s.builtin(quiet)
	frozen := s.replicas[0].process
	if err := frozen.Freeze(); err != nil {
		return outcome{}, err
	}
	var flooded load.Tally
	tally, err := during(ctx, func(ctx context.Context) (load.Tally, error) {
		return load.Open(ctx, requests, rate, length)
	}, func(ctx context.Context) error {
		var err error
		flooded, err = load.Closed(ctx, flood, clients, length)
		return err
	})
	if err := errors.Join(err, frozen.Resume()); err != nil {
		return outcome{}, err
	}
	return outcome{
		tally: tally, reached: tally.Failed == 0 && tally.Percentile(99) < 50*time.Millisecond,
		measures: []measure{{Name: "the other user's requests", Value: float64(flooded.Sent)}},
	}, nil
}

// onlyDies measures how long it takes until the condition tells, and whether
// discovery keeps the resources meanwhile. Of several deaths and returns the
// one that took longest counts.
func onlyDies(ctx context.Context, s *stage, short bool) (outcome, error) {
	rounds := 2
	if short {
		rounds = 1
	}
	const (
		deathGoal, returnGoal = 2 * time.Second, time.Second
		settle                = 3 * time.Second // before the next fault
	)
	if err := s.startAll(ctx, 1); err != nil {
		return outcome{}, err
	}
	if err := s.serving(ctx, ready(s.replicas...)); err != nil {
		return outcome{}, err
	}
	// Somebody has used it: connections exist.
	if err := warm(ctx, s.gets(quiet)); err != nil {
		return outcome{}, err
	}
	only := s.replicas[0]
	out := outcome{reached: true}
	var deaths, returns time.Duration
	kept, marked := 1, 1
	for range rounds {
		if err := only.process.Kill(); err != nil {
			return out, err
		}
		died, lost, err := s.tells(ctx, "False")
		if err != nil {
			return out, err
		}
		// The document may follow the condition by a little.
		fresh, err := s.settles(ctx, settle, stale)
		if err != nil {
			return out, err
		}
		if lost || fresh == gone {
			kept = 0
		}
		if fresh != stale {
			marked = 0
		}
		if err := only.start(ctx); err != nil {
			return out, err
		}
		returned, _, err := s.tells(ctx, "True")
		if err != nil {
			return out, err
		}
		deaths, returns = max(deaths, died), max(returns, returned)
		if fresh, err = s.settles(ctx, readyLimit, current); err != nil {
			return out, err
		}
		out.reached = out.reached && died < deathGoal && returned < returnGoal && kept == 1 && marked == 1 && fresh == current
	}
	out.measures = []measure{
		{Name: "False after", Value: deaths.Seconds(), Unit: "s"},
		{Name: "True after", Value: returns.Seconds(), Unit: "s"},
		{Name: "resources kept", Value: float64(kept)},
		{Name: "marked Stale", Value: float64(marked)},
	}
	return out, nil
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
