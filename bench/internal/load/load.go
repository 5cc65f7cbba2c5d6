// Package load sends a fixed number of requests in a closed loop and checks every answer.
package load

import (
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

// Spec is what to send. Every answer must be 200 with Size bytes.
type Spec struct {
	URL         string
	Header      http.Header
	Size        int64 // bytes of the body
	Requests    int   // at least 1
	Concurrency int   // at least 1: requests under way at a time
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

// Run sends the requests, and stops at the first wrong answer.
func Run(ctx context.Context, client *http.Client, s Spec) (Result, error) {
	if s.Requests < 1 || s.Concurrency < 1 || s.Limit <= 0 {
		return Result{}, fmt.Errorf("bad load: %d requests, %d at a time, limit %v", s.Requests, s.Concurrency, s.Limit)
	}
	ctx, cancel := context.WithTimeout(ctx, s.Limit)
	defer cancel()
	latencies := make([]time.Duration, s.Requests)
	errs := make([]error, s.Concurrency)
	var next atomic.Int64
	var wg sync.WaitGroup
	start := time.Now()
	for w := range s.Concurrency {
		wg.Go(func() {
			buffer := make([]byte, 64<<10)
			for {
				i := next.Add(1) - 1
				if i >= int64(s.Requests) {
					return
				}
				began := time.Now()
				if err := one(ctx, client, s, buffer); err != nil {
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
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL, nil)
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
	if resp.StatusCode != http.StatusOK || n != s.Size {
		return fmt.Errorf("GET %s: status %d and %d bytes, want 200 and %d", s.URL, resp.StatusCode, n, s.Size)
	}
	return nil
}
