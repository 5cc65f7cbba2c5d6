package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

// SlowAfter is when an answer counts as slow.
const SlowAfter = time.Second

const (
	// maxRetryAfter bounds how long a client waits because a server asks it to.
	maxRetryAfter = 5 * time.Second
	failurePause  = time.Second
	maxAnswer     = 1 << 20
)

// Requests are what the clients of a Tally send.
type Requests struct {
	// Clients take turns.
	Clients []*http.Client
	// New makes the i-th request, i from 0.
	New func(ctx context.Context, i int) (*http.Request, error)
	// Good is the status of a good answer.
	Good int
	// Timeout is how long a client waits for an answer.
	Timeout time.Duration
	// Again is how soon a client of Closed asks again after a failure, whatever the
	// server asks for. Zero heeds that, and is a second otherwise.
	Again time.Duration
}

// Tally is what became of requests, good or bad.
type Tally struct {
	Sent, Failed int
	// Slow is how many were answered well, but later than SlowAfter.
	Slow int
	// Failures counts what went wrong, with an example of each.
	Failures map[string]Failure

	latencies []time.Duration // of all, ascending
}

// Failure is one way in which requests fail.
type Failure struct {
	Count   int    `json:"count"`
	Example string `json:"example"`
}

// Late is the share of requests that were not answered well within SlowAfter.
func (t Tally) Late() float64 {
	if t.Sent == 0 {
		return 0
	}
	return float64(t.Failed+t.Slow) / float64(t.Sent)
}

// Percentile is the time that p percent of the requests did not exceed, 0 < p
// <= 100, failed ones included; 0 if none was sent.
func (t Tally) Percentile(p float64) time.Duration {
	if len(t.latencies) == 0 {
		return 0
	}
	return Result{latencies: t.latencies}.Percentile(p)
}

// recorder makes a Tally; its methods may be called from several goroutines.
type recorder struct {
	mu sync.Mutex
	t  Tally
}

func newRecorder() *recorder { return &recorder{t: Tally{Failures: map[string]Failure{}}} }

func (r *recorder) note(took time.Duration, kind, example string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.t.Sent++
	r.t.latencies = append(r.t.latencies, took)
	switch {
	case kind != "":
		r.t.Failed++
		f, known := r.t.Failures[kind]
		if !known {
			f.Example = example
		}
		f.Count++
		r.t.Failures[kind] = f
	case took > SlowAfter:
		r.t.Slow++
	}
}

func (r *recorder) tally() Tally {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.t
	t.latencies = slices.Sorted(slices.Values(t.latencies))
	t.Failures = maps.Clone(t.Failures)
	return t
}

// Open sends requests at a fixed rate for a time, whether they are answered or
// not, and waits until each has been answered or timed out. Cancelling ctx ends
// it early with an error. Rate is in requests a second, 1 to 10,000.
func Open(ctx context.Context, r Requests, rate int, duration time.Duration) (Tally, error) {
	if rate < 1 || rate > 10_000 || duration <= 0 || r.Timeout <= 0 || len(r.Clients) == 0 {
		return Tally{}, fmt.Errorf("bad load: %d requests a second for %v, time-out %v, %d clients", rate, duration, r.Timeout, len(r.Clients))
	}
	record := newRecorder()
	interval := time.Second / time.Duration(rate)
	count := int(duration / interval)
	var wg sync.WaitGroup
	defer wg.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	start := time.Now()
	for i := range count {
		timer.Reset(time.Until(start.Add(time.Duration(i) * interval)))
		select {
		case <-ctx.Done():
			return Tally{}, ctx.Err()
		case <-timer.C:
		}
		wg.Go(func() { r.send(ctx, i, record) })
	}
	wg.Wait()
	return record.tally(), ctx.Err()
}

// Closed runs clients that send one request after the other until a time has
// passed; then requests under way are given up, and not counted. A client waits
// a second after a failure, or as long as the server or Again asks for. Their beginning
// is spread over a second.
func Closed(ctx context.Context, r Requests, clients int, duration time.Duration) (Tally, error) {
	if clients < 1 || clients > 100_000 || duration <= 0 || r.Timeout <= 0 || len(r.Clients) == 0 {
		return Tally{}, fmt.Errorf("bad load: %d clients for %v, time-out %v, %d connections", clients, duration, r.Timeout, len(r.Clients))
	}
	record := newRecorder()
	limited, cancel := context.WithTimeout(ctx, duration)
	defer cancel()
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			pause := time.Second * time.Duration(i) / time.Duration(clients)
			for wait(limited, pause) {
				pause = r.send(limited, i, record)
			}
		})
	}
	wg.Wait()
	return record.tally(), ctx.Err()
}

// wait says whether a time has passed before the context ended.
func wait(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// send returns how long the client is to wait before its next request.
func (r Requests) send(parent context.Context, i int, record *recorder) time.Duration {
	ctx, cancel := context.WithTimeout(parent, r.Timeout)
	defer cancel()
	request, err := r.New(ctx, i)
	if err != nil {
		record.note(0, "no request", err.Error())
		return failurePause
	}
	began := time.Now()
	response, body, err := exchange(r.Clients[i%len(r.Clients)], request)
	took := time.Since(began)
	if parent.Err() != nil {
		return 0 // Given up by us: it says nothing.
	}
	pause := failurePause
	if r.Again > 0 {
		pause = r.Again
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		record.note(took, fmt.Sprintf("no answer within %v", r.Timeout), err.Error())
	case err != nil:
		record.note(took, "broken", err.Error())
	case response.StatusCode != r.Good:
		record.note(took, fmt.Sprintf("status %d", response.StatusCode), fmt.Sprintf("%.300s", body))
		if seconds, err := strconv.Atoi(response.Header.Get("Retry-After")); err == nil && seconds > 0 && r.Again == 0 {
			return min(maxRetryAfter, time.Duration(seconds)*time.Second)
		}
	default:
		record.note(took, "", "")
		return 0
	}
	return pause
}

func exchange(client *http.Client, request *http.Request) (*http.Response, []byte, error) {
	response, err := client.Do(request)
	if err != nil {
		return nil, nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	return response, body, err
}
