package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/annex-api/annex/bench/internal/load"
)

const (
	profileSeconds = 5
	// eventsGrace is how much longer than planned events may take.
	eventsGrace = time.Minute
)

// watch holds watches of one namespace while one object is changed, and tells what an event costs that
// was delivered, and how long it took from its cause.
func (s *stage) watch(ctx context.Context, v *server, round int) (_ []sampled, err error) {
	z := s.options.sizes
	if _, err := v.create(ctx, watchedNS, 0); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(z.Events/z.Rate)*time.Second+eventsGrace)
	var bodies []io.ReadCloser
	defer func() {
		cancel()
		for _, b := range bodies {
			b.Close() // The watch is over either way.
		}
	}()
	for range z.Watches {
		b, err := v.openWatch(ctx)
		if err != nil {
			return nil, err
		}
		bodies = append(bodies, b)
	}
	began := make([]time.Time, z.Events+1) // of each event; the first is there before
	var mu sync.Mutex                      // of began
	var latencies []time.Duration
	readers := make([]*bufio.Reader, len(bodies))
	for i, b := range bodies {
		readers[i] = bufio.NewReader(b)
		if _, err := readers[i].ReadString('\n'); err != nil {
			return nil, fmt.Errorf("reading the first event: %w", err)
		}
	}
	finish := s.profile(ctx, v, "watch")
	before, err := v.CPU()
	if err != nil {
		return nil, err
	}
	errs := make([]error, len(readers))
	var reading sync.WaitGroup
	for i, r := range readers {
		reading.Go(func() {
			own := make([]time.Duration, 0, z.Events)
			for event := 1; event <= z.Events; event++ {
				line, err := r.ReadString('\n')
				if err == nil && !strings.HasPrefix(line, `{"type":"MODIFIED"`) {
					err = fmt.Errorf("an event is %.200q", line)
				}
				if err != nil {
					errs[i] = fmt.Errorf("reading event %d: %w", event, err)
					cancel()
					return
				}
				mu.Lock()
				own = append(own, time.Since(began[event]))
				mu.Unlock()
			}
			mu.Lock()
			defer mu.Unlock()
			latencies = append(latencies, own...)
		})
	}
	tick := time.NewTicker(time.Second / time.Duration(z.Rate))
	defer tick.Stop()
	for event := 1; event <= z.Events && err == nil; event++ {
		select {
		case <-ctx.Done():
			err = ctx.Err()
			continue
		case <-tick.C:
		}
		mu.Lock()
		began[event] = time.Now()
		mu.Unlock()
		_, err = v.patch(ctx, watchedNS, 0, event)
	}
	if err != nil {
		cancel()
	}
	reading.Wait()
	if err := errors.Join(append(errs, err)...); err != nil {
		return nil, err
	}
	after, err := v.CPU()
	if err = errors.Join(err, finish()); err != nil {
		return nil, err
	}
	all := load.Of(latencies)
	return []sampled{
		{v.name, round, "watch", "cpu an event, us", micros(after-before) / float64(z.Events*z.Watches), goal},
		{v.name, round, "watch", "p50, us", micros(all.Percentile(50)), 0},
		{v.name, round, "watch", "p99, us", micros(all.Percentile(99)), 0},
	}, nil
}

// openWatch opens a watch, which shows what is there first.
func (v *server) openWatch(ctx context.Context) (io.ReadCloser, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, v.URL+collection(watchedNS)+"?watch=true", nil)
	if err != nil {
		return nil, fmt.Errorf("making a request: %w", err)
	}
	resp, err := v.client.Do(r)
	if err != nil {
		return nil, fmt.Errorf("opening a watch: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, fmt.Errorf("opening a watch: status %d", resp.StatusCode)
	}
	return resp.Body, nil
}

// profile begins to take a profile of a server's processor time; finish waits until it is written.
func (s *stage) profile(ctx context.Context, v *server, work string) (finish func() error) {
	done := make(chan error, 1)
	go func() { done <- s.fetch(ctx, v, work, fmt.Sprintf("profile?seconds=%d", profileSeconds)) }()
	return func() error { return <-done }
}

// fetch writes a profile into the folder for them. Without a folder nothing is done.
func (s *stage) fetch(ctx context.Context, v *server, work, path string) error {
	if s.options.profiles == "" {
		return nil
	}
	content, err := v.profile(ctx, "/debug/pprof/"+path)
	if err != nil {
		return fmt.Errorf("profiling %s: %w", v.name, err)
	}
	file := v.name + "-" + strings.ReplaceAll(work, " ", "-") + ".pprof"
	return errors.Join(os.MkdirAll(s.options.profiles, 0o700), os.WriteFile(filepath.Join(s.options.profiles, file), content, 0o600))
}
