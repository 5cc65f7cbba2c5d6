package main

import (
	"context"
	"net/http"
	"time"

	"github.com/annex-api/annex/bench/internal/fixture"
	"github.com/annex-api/annex/bench/internal/load"
)

// objects are GETs of objects of several APIServices, in turn.
func (s *stage) objects(numbers []int) load.Requests {
	return load.Requests{
		Clients: s.client(connections), Good: http.StatusOK, Timeout: clientLimit,
		New: func(ctx context.Context, i int) (*http.Request, error) {
			return s.get(loud, fixture.Path(numbers[i%len(numbers)])+"/one")(ctx, i)
		},
	}
}

// hanging: a server takes requests and never answers one, and its connections
// stay alive; another is asked meanwhile.
func hanging(ctx context.Context, s *stage, short bool) (outcome, error) {
	rate, clients, length := 100, 200, 20*time.Second
	if short {
		length = 10 * time.Second
	}
	if err := s.startAll(ctx, 1); err != nil {
		return outcome{}, err
	}
	if err := s.serving(ctx, ready(s.replicas...)); err != nil {
		return outcome{}, err
	}
	if err := s.startAll(ctx, 3, "-hostile"); err != nil {
		return outcome{}, err
	}
	n, err := number("hanging")
	if err != nil {
		return outcome{}, err
	}
	if err := s.register(ctx, n, ready(s.replicas[1:]...)); err != nil {
		return outcome{}, err
	}
	if err := s.until(ctx, "the one that will hang to be Available", func(ctx context.Context) (bool, error) {
		status, err := s.available(ctx, n)
		return status == "True", err
	}); err != nil {
		return outcome{}, err
	}
	flood, requests := s.objects([]int{n}), s.gets(quiet)
	flood.Timeout = askLimit // So that most ask again, and see what is known by then.
	var flooded load.Tally
	tally, err := during(ctx, func(ctx context.Context) (load.Tally, error) {
		return load.Open(ctx, requests, rate, length)
	}, func(ctx context.Context) error {
		var err error
		flooded, err = load.Closed(ctx, flood, clients, length)
		return err
	})
	if err != nil {
		return outcome{}, err
	}
	out := outcome{
		tally: tally, counted: tally.Failed == 0, timely: tally.Late() == 0,
		measures: []measure{{Name: "median of the flood's answers", Value: millis(flooded.Percentile(50)), Unit: "ms"}},
	}
	out.add("the flood's requests", flooded)
	return out, nil
}
