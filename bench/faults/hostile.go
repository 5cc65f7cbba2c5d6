package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
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
)

// hostileDocuments: all kinds but nesting, each an APIService of its own.
func hostileDocuments(ctx context.Context, s *stage, short bool) (outcome, error) {
	var kinds []int
	for i, kind := range fixture.Hostile {
		if kind != "nested" {
			kinds = append(kinds, i)
		}
	}
	return s.hostile(ctx, short, kinds)
}

func nestedDocuments(ctx context.Context, s *stage, short bool) (outcome, error) {
	for i, kind := range fixture.Hostile {
		if kind == "nested" {
			return s.hostile(ctx, short, []int{i})
		}
	}
	return outcome{}, errors.New("there is no kind of nested documents")
}

// hostile registers hostile extension servers beside a good one under load.
// The merged OpenAPI documents are read meanwhile, so that they are merged.
func (s *stage) hostile(ctx context.Context, short bool, kinds []int) (outcome, error) {
	rate, length := 100, 30*time.Second
	if short {
		length = 10 * time.Second
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
	most := before.PSS
	requests := s.gets(quiet)
	reader := s.client(1)[0]
	tally, err := during(ctx, func(ctx context.Context) (load.Tally, error) {
		return load.Open(ctx, requests, rate, length)
	}, func(ctx context.Context) error {
		for _, i := range kinds {
			if err := s.register(ctx, fixture.FirstHostile+i, ready(bad)); err != nil && !s.Server.Ended() {
				return err
			}
		}
		ctx, cancel := context.WithTimeout(ctx, length)
		defer cancel()
		read := make(chan struct{})
		go func() {
			defer close(read)
			s.readOpenAPI(ctx, reader)
		}()
		defer func() { <-read }()
		for !s.Server.Ended() && ctx.Err() == nil {
			if m, err := s.Server.Memory(); err == nil { // It may end in between.
				most = max(most, m.PSS)
			}
			if most > memoryKill {
				return s.Server.Kill()
			}
			if err := after(ctx, sampleInterval, func() error { return nil }); err != nil {
				return nil // The time is up.
			}
		}
		return nil
	})
	if err != nil {
		return outcome{}, err
	}
	died := 0.0
	if s.Server.Ended() {
		died = 1
	}
	const mib = 1 << 20
	return outcome{
		tally: tally, reached: tally.Late() == 0 && died == 0 && most-before.PSS <= memoryGoal,
		measures: []measure{
			{Name: "PSS before", Value: float64(before.PSS / mib), Unit: "MiB"},
			{Name: "most", Value: float64(most / mib), Unit: "MiB"},
			{Name: "server died", Value: died},
		},
	}, nil
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
