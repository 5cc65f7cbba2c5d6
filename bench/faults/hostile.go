package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/annex-api/annex/bench/internal/fixture"
	"github.com/annex-api/annex/bench/internal/load"
)

const (
	// memoryGoal is how much the server may grow under hostile documents, in bytes.
	memoryGoal = 512 << 20
	// memoryKill is when the server is ended, before it takes the machine's memory.
	memoryKill     = 8 << 30
	sampleInterval = 200 * time.Millisecond
	readInterval   = 5 * time.Second
	readLimit      = 10 * time.Second
	// askLimit is how long who asks a hostile extension server waits.
	askLimit = 3 * time.Second
)

// hostileDocuments: all kinds but nesting, each an APIService of its own.
func hostileDocuments(ctx context.Context, s *stage, short bool) (outcome, error) {
	return s.hostile(ctx, short, 0, "endless", "huge", "gzip-bomb", "many-resources", "slow")
}

func nestedDocuments(ctx context.Context, s *stage, short bool) (outcome, error) {
	return s.hostile(ctx, short, 0, "nested")
}

// unsteady: documents are small here, and clients ask for objects too.
func unsteady(ctx context.Context, s *stage, short bool) (outcome, error) {
	return s.hostile(ctx, short, 40, "flapping", "slow-headers", "slow", "changing")
}

// number of the APIService that stands for a kind.
func number(kind string) (int, error) {
	i := slices.Index(fixture.Hostile, kind)
	if i < 0 {
		return 0, fmt.Errorf("there is no hostile extension server %q", kind)
	}
	return fixture.FirstHostile + i, nil
}

// hostile registers hostile extension servers, one for each kind, beside a good
// one under load, while the hostile ones are asked for askRate objects a second.
// The merged OpenAPI documents are read meanwhile, so that they are merged.
func (s *stage) hostile(ctx context.Context, short bool, askRate int, kinds ...string) (outcome, error) {
	rate, length := 100, 30*time.Second
	if short {
		length = 8 * time.Second
	}
	if err := s.startAll(ctx, 1); err != nil {
		return outcome{}, err
	}
	if err := s.serving(ctx, ready(s.replicas...)); err != nil {
		return outcome{}, err
	}
	bad := s.replica("-hostile")
	if err := bad.start(ctx); err != nil {
		return outcome{}, err
	}
	before, err := s.Server.Memory()
	if err != nil {
		return outcome{}, err
	}
	numbers := make([]int, len(kinds))
	for i, kind := range kinds {
		if numbers[i], err = number(kind); err != nil {
			return outcome{}, err
		}
	}
	requests, objects, reader := s.gets(quiet), s.objects(numbers), s.client(1)[0]
	objects.Timeout = askLimit
	use := use{most: before.PSS}
	var asked load.Tally
	tally, err := during(ctx, func(ctx context.Context) (load.Tally, error) {
		return load.Open(ctx, requests, rate, length)
	}, func(ctx context.Context) error {
		for _, n := range numbers {
			if err := s.register(ctx, n, ready(bad)); err != nil && !s.Server.Ended() {
				return err
			}
		}
		var err error
		asked, err = during(ctx, func(ctx context.Context) (load.Tally, error) {
			if askRate == 0 {
				return load.Tally{}, nil
			}
			return load.Open(ctx, objects, askRate, length-askLimit)
		}, func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, length)
			defer cancel()
			var reading sync.WaitGroup
			defer reading.Wait()
			reading.Go(func() { s.readOpenAPI(ctx, reader) })
			return s.sample(ctx, &use)
		})
		return err
	})
	if err != nil {
		return outcome{}, err
	}
	const mib = 1 << 20
	out := outcome{
		tally:   tally,
		counted: tally.Failed == 0 && !s.Server.Ended() && use.most-before.PSS <= memoryGoal,
		timely:  tally.Late() == 0,
		measures: []measure{
			{Name: "PSS before", Value: float64(before.PSS / mib), Unit: "MiB"},
			{Name: "most", Value: float64(use.most / mib), Unit: "MiB"},
			{Name: "server died", Value: oneIf(s.Server.Ended())},
			{Name: "processor time of the server", Value: use.share(), Unit: "ms/s"},
		},
	}
	if askRate > 0 {
		out.add("requests for objects of the hostile ones", asked)
	}
	return out, nil
}

// use is what the server took while it was watched: memory at most, in bytes,
// and processor time.
type use struct {
	most         int64
	cpu, watched time.Duration
}

// share is the processor time in milliseconds a second.
func (u use) share() float64 {
	if u.watched == 0 {
		return 0
	}
	return float64((u.cpu * 1000 / u.watched).Nanoseconds())
}

// sample watches the server until ctx ends or the server does, and ends it
// before it takes the machine's memory.
func (s *stage) sample(ctx context.Context, u *use) error {
	first, err := s.Server.CPU()
	if err != nil {
		return err
	}
	began := time.Now()
	for !s.Server.Ended() {
		// It may end in between.
		if m, err := s.Server.Memory(); err == nil {
			u.most = max(u.most, m.PSS)
		}
		if now, err := s.Server.CPU(); err == nil {
			u.cpu, u.watched = now-first, time.Since(began)
		}
		if u.most > memoryKill {
			return s.Server.Kill()
		}
		if err := after(ctx, sampleInterval, func() error { return nil }); err != nil {
			break // The time is up.
		}
	}
	return nil
}

// readOpenAPI asks for the documents; what comes back does not matter here.
func (s *stage) readOpenAPI(ctx context.Context, client *http.Client) {
	for {
		for _, path := range []string{"/openapi/v2", "/openapi/v3"} {
			if err := s.read(ctx, client, path); ctx.Err() != nil || err != nil && s.Server.Ended() {
				return
			}
		}
		if after(ctx, readInterval, func() error { return nil }) != nil {
			return
		}
	}
}

func (s *stage) read(ctx context.Context, client *http.Client, path string) error {
	ctx, cancel := context.WithTimeout(ctx, readLimit)
	defer cancel()
	r, err := s.get(loud, path)(ctx, 0)
	if err != nil {
		return err
	}
	response, err := client.Do(r)
	if err != nil {
		return fmt.Errorf("reading %s: %w", path, err)
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return err
}
