package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/annex-api/annex/bench/internal/host"
	"github.com/annex-api/annex/bench/internal/load"
	"github.com/annex-api/annex/bench/internal/work"
)

const (
	// few is how many objects a short list has.
	few = 500
	// workLimit bounds a part of a work.
	workLimit = 5 * time.Minute
	// goal is the ratio to sample-apiserver that is aimed at, restGoal that of memory at rest, and
	// startGoal the time to ready without etcd, in ms. docs/design/adr/0016 says what is reached.
	goal      = 0.95
	restGoal  = 0.8
	startGoal = 1000
)

// task is one work of requests, as it is done on one server.
type task struct {
	name     string
	requests int
	goal     float64
	// prepare makes what the requests need; nil: nothing.
	prepare func(ctx context.Context, v *server, s sizes) error
	// send returns what sends the i-th request of a worker.
	send func(v *server, s sizes) func(ctx context.Context, worker, i int) error
}

// tasks are the works of requests, in their order: lists of all objects follow their creation.
func tasks(s sizes) []task {
	changes := max(s.Requests/4, s.Concurrency)
	return []task{
		{name: "create", requests: s.Objects, goal: goal, send: creates},
		{name: "get", requests: s.Requests, goal: goal, send: gets},
		{name: fmt.Sprintf("list of %d", few), requests: s.Lists, goal: goal, prepare: makeFew, send: lists(fewNS)},
		{name: fmt.Sprintf("list of %d", s.Objects), requests: max(s.Lists/10, work.Parts), send: lists(createdNS)},
		{name: "update", requests: changes, prepare: makeChanged, send: updates},
		{name: "patch", requests: changes, send: patches},
	}
}

func creates(v *server, _ sizes) func(context.Context, int, int) error {
	return func(ctx context.Context, _, i int) error {
		_, err := v.create(ctx, createdNS, i)
		return err
	}
}

func gets(v *server, _ sizes) func(context.Context, int, int) error {
	url := v.URL + collection(createdNS) + "/" + name(0)
	return func(ctx context.Context, _, _ int) error {
		_, err := get(ctx, v.client, url)
		return err
	}
}

func lists(namespace string) func(*server, sizes) func(context.Context, int, int) error {
	return func(v *server, _ sizes) func(context.Context, int, int) error {
		url := v.URL + collection(namespace)
		return func(ctx context.Context, _, _ int) error {
			body, err := get(ctx, v.client, url)
			if err == nil && len(body) < few*100 {
				err = fmt.Errorf("a list has %d bytes", len(body))
			}
			return err
		}
	}
}

func makeFew(ctx context.Context, v *server, s sizes) error {
	_, err := load.Each(ctx, few, s.Concurrency, workLimit, func(ctx context.Context, _, i int) error {
		_, err := v.create(ctx, fewNS, i)
		return err
	})
	return err
}

func makeChanged(ctx context.Context, v *server, s sizes) error {
	for i := range s.Concurrency {
		if _, err := v.create(ctx, changedNS, i); err != nil {
			return err
		}
	}
	return nil
}

// updates are PUTs of what the PUT before was answered: each worker has an object of its own.
func updates(v *server, s sizes) func(context.Context, int, int) error {
	read := make([][]byte, s.Concurrency)
	return func(ctx context.Context, worker, i int) error {
		url := v.URL + collection(changedNS) + "/" + name(worker)
		var err error
		if read[worker] == nil {
			if read[worker], err = get(ctx, v.client, url); err != nil {
				return err
			}
		}
		body, err := changed(read[worker], i)
		if err != nil {
			return err
		}
		read[worker], err = send(ctx, v.client, http.MethodPut, url, "application/json", body, http.StatusOK)
		return err
	}
}

func patches(v *server, _ sizes) func(context.Context, int, int) error {
	return func(ctx context.Context, worker, i int) error {
		_, err := v.patch(ctx, changedNS, worker, i)
		return err
	}
}

// do does a task on servers in parts, in turn, and gives the samples of each.
func (s *stage) do(ctx context.Context, t task, servers []*server, round int) ([]sampled, error) {
	sends := make([]func(context.Context, int, int) error, len(servers))
	used := make([]time.Duration, len(servers))
	results := make([][]load.Result, len(servers))
	finish := make([]func() error, len(servers))
	for i, v := range servers {
		if t.prepare != nil {
			if err := t.prepare(ctx, v, s.options.sizes); err != nil {
				return nil, fmt.Errorf("%s, preparing to %s: %w", v.name, t.name, err)
			}
		}
		sends[i] = t.send(v, s.options.sizes)
		finish[i] = s.profile(ctx, v, t.name)
	}
	each := max(t.requests/work.Parts, 1)
	for part := range work.Parts {
		for turn := range servers {
			i := (part + turn) % len(servers) // each is the first in its turn
			before, err := servers[i].CPU()
			if err != nil {
				return nil, err
			}
			result, err := load.Each(ctx, each, min(each, s.options.sizes.Concurrency), workLimit, func(ctx context.Context, worker, n int) error {
				return sends[i](ctx, worker, part*each+n)
			})
			if err != nil {
				return nil, fmt.Errorf("%s, %s: %w", servers[i].name, t.name, err)
			}
			after, err := servers[i].CPU()
			if err != nil {
				return nil, err
			}
			used[i] += after - before
			results[i] = append(results[i], result)
		}
	}
	var samples []sampled
	for i, v := range servers {
		if err := finish[i](); err != nil {
			return nil, err
		}
		all := load.Join(results[i]...)
		n := float64(each * work.Parts)
		samples = append(samples,
			sampled{v.name, round, t.name, "cpu each, us", micros(used[i]) / n, t.goal},
			sampled{v.name, round, t.name, "p50, us", micros(all.Percentile(50)), 0},
			sampled{v.name, round, t.name, "p99, us", micros(all.Percentile(99)), 0},
		)
	}
	return samples, nil
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// sampled is one value of one server in one round.
type sampled struct {
	Subject string  `json:"subject"`
	Round   int     `json:"round"`
	Work    string  `json:"work"`
	Metric  string  `json:"metric"`
	Value   float64 `json:"value"`
	Goal    float64 `json:"goal,omitempty"` // of the ratio to sample-apiserver
}

// compare measures the two servers side by side, with fresh data.
func (s *stage) compare(ctx context.Context, round int) (samples []sampled, err error) {
	names := []string{sample, sdk}
	if round%2 == 0 {
		names = []string{sdk, sample}
	}
	return s.measure(ctx, names, round)
}

// alone measures the SDK over another storage.
func (s *stage) alone(ctx context.Context, driver string) ([]sampled, error) {
	return s.measure(ctx, []string{driver}, 1)
}

func (s *stage) measure(ctx context.Context, names []string, round int) (samples []sampled, err error) {
	var servers []*server
	for _, n := range names {
		v, err := s.start(ctx, n, round)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, v.stop()) }()
		servers = append(servers, v)
		m, err := s.settle(ctx, v)
		if err = errors.Join(err, s.fetch(ctx, v, "rest", "heap")); err != nil {
			return nil, err
		}
		samples = append(samples,
			sampled{n, round, "start", "to ready, ms", micros(v.Startup) / 1000, 0},
			sampled{n, round, "rest", "PSS, MiB", mebibytes(m.PSS), restGoal},
			sampled{n, round, "rest", "anonymous, MiB", mebibytes(m.Anonymous), restGoal},
			sampled{n, round, "rest", "live, MiB", mebibytes(m.Live), 0},
		)
	}
	for _, t := range tasks(s.options.sizes) {
		began := time.Now()
		got, err := s.do(ctx, t, servers, round)
		if err != nil {
			return samples, err
		}
		samples = append(samples, got...)
		s.progress(round, "%v: %s in %v", names, t.name, since(began))
	}
	began := time.Now()
	for _, v := range servers {
		got, err := s.watch(ctx, v, round)
		if err != nil {
			return samples, fmt.Errorf("%s, watch: %w", v.name, err)
		}
		samples = append(samples, got...)
	}
	s.progress(round, "%v: watch in %v", names, since(began))
	for _, v := range servers {
		m, err := s.settle(ctx, v)
		if err != nil {
			return samples, err
		}
		samples = append(samples, sampled{v.name, round, "after all", "PSS, MiB", mebibytes(m.PSS), 0}, sampled{v.name, round, "after all", "live, MiB", mebibytes(m.Live), 0})
	}
	return samples, nil
}

func (s *stage) settle(ctx context.Context, v *server) (host.Memory, error) {
	return host.Settle(ctx, v.Process, func(ctx context.Context) ([]byte, error) { return v.profile(ctx, host.HeapProfile) })
}

func mebibytes(n int64) float64 { return float64(n) / (1 << 20) }
