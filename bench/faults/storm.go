package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/annex-api/annex/bench/internal/fixture"
	"github.com/annex-api/annex/bench/internal/load"
)

// Attempts may be this share of the requests, and so many more: what a retry
// budget has saved up and gets by time, and the probes.
const (
	attemptShare = 1.2
	attemptExtra = 300
)

// overloaded: attempts are requests that reach a handler.
func overloaded(ctx context.Context, s *stage, short bool) (outcome, error) {
	if err := s.startAll(ctx, 3, "-overload"); err != nil {
		return outcome{}, err
	}
	return s.storm(ctx, short, http.MethodGet, func() error { return nil })
}

// resetting: the replicas give way to ones that reset each connection; attempts
// are connections, those of probes too.
func resetting(ctx context.Context, s *stage, short bool) (outcome, error) {
	if err := s.startAll(ctx, 3); err != nil {
		return outcome{}, err
	}
	return s.storm(ctx, short, "CONNECT", func() error {
		for _, r := range s.replicas {
			if err := r.process.Kill(); err != nil {
				return err
			}
			r.args = []string{"-reset"}
			if err := r.start(ctx); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *stage) storm(ctx context.Context, short bool, attempt string, fault func() error) (outcome, error) {
	rate, length := 500, 10*time.Second
	if short {
		length = 4 * time.Second
	}
	if err := s.register(ctx, 0, ready(s.replicas...)); err != nil {
		return outcome{}, err
	}
	if err := s.until(ctx, "the extension server to be Available", func(ctx context.Context) (bool, error) {
		status, err := s.available(ctx, 0)
		return status == "True", err
	}); err != nil {
		return outcome{}, err
	}
	if err := fault(); err != nil {
		return outcome{}, fmt.Errorf("breaking the replicas: %w", err)
	}
	tally, err := load.Open(ctx, s.gets(quiet), rate, length)
	if err != nil {
		return outcome{}, err
	}
	attempts, err := s.noted(attempt)
	if err != nil {
		return outcome{}, err
	}
	bound := int(attemptShare*float64(tally.Sent)) + attemptExtra
	return outcome{
		tally: tally, counted: len(attempts) <= bound, timely: true,
		measures: []measure{{Name: "attempts", Value: float64(len(attempts))}, {Name: "bound", Value: float64(bound)}},
	}, nil
}

// killedUnderPosts kills each replica once while POSTs are under way at it.
func killedUnderPosts(ctx context.Context, s *stage, short bool) (outcome, error) {
	rate, victims := 200, 3
	if short {
		rate, victims = 100, 2
	}
	const (
		away = time.Second
		next = 3 * time.Second
	)
	if err := s.startAll(ctx, 3, "-create-takes=300ms"); err != nil {
		return outcome{}, err
	}
	if err := s.serving(ctx, ready(s.replicas...)); err != nil {
		return outcome{}, err
	}
	requests := load.Requests{Clients: s.client(connections), Good: http.StatusCreated, Timeout: clientLimit, New: s.post}
	tally, err := during(ctx, func(ctx context.Context) (load.Tally, error) {
		return load.Open(ctx, requests, rate, time.Duration(victims)*(away+next)+time.Second)
	}, func(ctx context.Context) error {
		for _, victim := range s.replicas[:victims] {
			err := after(ctx, next, victim.process.Kill)
			if err == nil {
				err = after(ctx, away, func() error { return victim.start(ctx) })
			}
			if err != nil {
				return fmt.Errorf("killing and restarting %s: %w", victim.name, err)
			}
		}
		return nil
	})
	if err != nil {
		return outcome{}, err
	}
	ids, err := s.noted(http.MethodPost)
	if err != nil {
		return outcome{}, err
	}
	seen, twice := map[string]int{}, 0
	for _, id := range ids {
		if seen[id]++; seen[id] == 2 {
			twice++
		}
	}
	if len(seen) < tally.Sent-tally.Failed {
		return outcome{}, errors.New("the replicas noted fewer requests than were answered: the count is wrong")
	}
	// Without any the kills have proved nothing.
	cut := len(seen) - (tally.Sent - tally.Failed)
	return outcome{
		tally: tally, counted: twice == 0 && cut > 0, timely: true,
		measures: []measure{
			{Name: "handled", Value: float64(len(seen))},
			{Name: "cut off in the middle", Value: float64(cut)},
			{Name: "handled twice", Value: float64(twice)},
		},
	}, nil
}

func (s *stage) post(ctx context.Context, i int) (*http.Request, error) {
	body := fixture.Item(fixture.Group(0), fmt.Sprintf("new-%06d", i))
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+fixture.Path(0), bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("making a request: %w", err)
	}
	r.Header.Set("Authorization", "Bearer "+s.tokens[quiet])
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set(fixture.IDHeader, strconv.Itoa(i))
	return r, nil
}
