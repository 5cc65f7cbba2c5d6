// Package load sends a fixed number of requests in a closed loop and checks every answer.
package load

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Spec is what to send. Every answer must have the wanted status and Size bytes.
type Spec struct {
	Method      string // empty: GET
	URL         string
	Header      http.Header
	Body        []byte // sent with each request
	Status      int    // wanted; 0: 200
	Size        int64  // bytes of the body
	Requests    int    // at least 1
	Concurrency int    // at least 1: requests under way at a time
	Limit       time.Duration
}

// Result is what was measured.
type Result struct {
	Took      time.Duration
	latencies []time.Duration // ascending
}

// Percentile is the latency that p percent of the requests did not exceed, 0 < p <= 100.
func (r Result) Percentile(p float64) time.Duration {
	i := int(float64(len(r.latencies))*p/100+0.9999) - 1
	return r.latencies[min(max(i, 0), len(r.latencies)-1)]
}

// Of is a result of latencies.
func Of(latencies []time.Duration) Result {
	return Result{latencies: slices.Sorted(slices.Values(latencies))}
}

// Join is the result of several runs as if they were one.
func Join(results ...Result) Result {
	var all Result
	for _, r := range results {
		all.Took += r.Took
		all.latencies = append(all.latencies, r.latencies...)
	}
	slices.Sort(all.latencies)
	return all
}

// Run sends the requests, and stops at the first wrong answer.
func Run(ctx context.Context, client *http.Client, s Spec) (Result, error) {
	s.Method = cmp.Or(s.Method, http.MethodGet)
	s.Status = cmp.Or(s.Status, http.StatusOK)
	buffers := make([][]byte, max(s.Concurrency, 0))
	for i := range buffers {
		buffers[i] = make([]byte, 64<<10)
	}
	return Each(ctx, s.Requests, s.Concurrency, s.Limit, func(ctx context.Context, worker, _ int) error {
		return one(ctx, client, s, buffers[worker])
	})
}

// Each calls send for every number below requests, by as many workers as are to be under way at a time,
// and stops at the first error.
func Each(ctx context.Context, requests, concurrency int, limit time.Duration, send func(ctx context.Context, worker, i int) error) (Result, error) {
	if requests < 1 || concurrency < 1 || limit <= 0 {
		return Result{}, fmt.Errorf("bad load: %d requests, %d at a time, limit %v", requests, concurrency, limit)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	latencies := make([]time.Duration, requests)
	errs := make([]error, concurrency)
	var next atomic.Int64
	var wg sync.WaitGroup
	start := time.Now()
	for w := range concurrency {
		wg.Go(func() {
			for {
				i := next.Add(1) - 1
				if i >= int64(requests) {
					return
				}
				began := time.Now()
				if err := send(ctx, w, int(i)); err != nil {
					errs[w] = err
					cancel()
					return
				}
				latencies[i] = time.Since(began)
			}
		})
	}
	wg.Wait()
	took := time.Since(start)
	if err := first(errs); err != nil {
		return Result{}, err
	}
	slices.Sort(latencies)
	return Result{Took: took, latencies: latencies}, nil
}

// first is the error that made the others stop, if it can be told.
func first(errs []error) error {
	var cancelled error
	for _, err := range errs {
		if err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
		cancelled = errors.Join(cancelled, err)
	}
	return cancelled
}

func one(ctx context.Context, client *http.Client, s Spec, buffer []byte) error {
	// NewRequest knows the length of what a bytes.Reader holds.
	r, err := http.NewRequestWithContext(ctx, s.Method, s.URL, bytes.NewReader(s.Body))
	if err != nil {
		return fmt.Errorf("making a request: %w", err)
	}
	for k, v := range s.Header {
		r.Header[k] = v
	}
	resp, err := client.Do(r)
	if err != nil {
		return fmt.Errorf("sending a request: %w", err)
	}
	defer resp.Body.Close()
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, resp.Body, buffer)
	if err != nil {
		return fmt.Errorf("reading the answer to %s: %w", s.URL, err)
	}
	if resp.StatusCode != s.Status || n != s.Size {
		return fmt.Errorf("%s %s: status %d and %d bytes, want %d and %d", s.Method, s.URL, resp.StatusCode, n, s.Status, s.Size)
	}
	return nil
}
