package work

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/annex-api/annex/bench/internal/fixture"
	"github.com/annex-api/annex/bench/internal/host"
	"github.com/annex-api/annex/bench/internal/load"
)

// requests sends one request many times.
type requests struct {
	name    string
	layer   bool
	path    string
	header  http.Header
	body    []byte  // of a POST, which is answered 201; nil: a GET
	size    int     // bytes of every answer; 0: all must be as long as the first
	divisor int     // of Config.Requests
	goal    float64 // of the processor time
	bare    float64 // goal of it, to the bare proxy's
	prepare func(context.Context, *host.Host) error
}

func (r requests) Name() string { return r.name }

func (r requests) Layer() bool { return r.layer }

func builtinGet() Work {
	const name = "one"
	path := "/api/v1/namespaces/" + fixture.Namespace + "/configmaps"
	return requests{
		name: "get", path: path + "/" + name, divisor: 1, goal: 1.0,
		prepare: func(ctx context.Context, h *host.Host) error {
			return h.Create(ctx, path, map[string]any{
				"metadata": map[string]any{"name": name},
				"data":     map[string]any{"payload": "the size of a small object does not matter here"},
			})
		},
	}
}

func proxiedGet() Work {
	return requests{
		name: "proxied-get", layer: true, path: fixture.Path(0) + "/one", size: fixture.ItemBytes,
		divisor: 1, goal: 0.4, bare: 1.35,
	}
}

func proxiedList() Work {
	return requests{
		name: "proxied-list", layer: true, path: fixture.Path(0), size: len(fixture.List(fixture.Group(0))),
		divisor: 4, goal: 0.7,
	}
}

func proxiedWrites() Work {
	return requests{
		name: "proxied-writes", layer: true, path: fixture.Path(0), size: fixture.ItemBytes, divisor: 1,
		header: http.Header{"Content-Type": {"application/json"}}, body: fixture.Item(fixture.Group(0), "new"),
	}
}

func aggregatedDiscovery() requests {
	return requests{
		name: "discovery", path: "/apis", divisor: 4, goal: 0.6,
		header: http.Header{"Accept": {host.AggregatedDiscovery}},
	}
}

// compressedDiscovery is the same as kubectl and client-go ask for it.
func compressedDiscovery() requests {
	r := aggregatedDiscovery()
	r.name, r.goal = "discovery-gzip", 0.45
	r.header = http.Header{"Accept": {host.AggregatedDiscovery}, "Accept-Encoding": {"gzip"}}
	return r
}

// Discovery is the work on the aggregated discovery document, with as many
// requests as the config says. Its first metric is the processor time.
func Discovery() Work {
	r := aggregatedDiscovery()
	r.divisor = 1
	return r
}

func (r requests) Run(ctx context.Context, h *host.Host, c Config) ([]Metric, error) {
	t, err := r.Begin(ctx, h, c)
	if err != nil {
		return nil, err
	}
	for range Parts {
		if err := t.Part(ctx); err != nil {
			return nil, err
		}
	}
	return t.End()
}

// Begin implements Parted.
func (r requests) Begin(ctx context.Context, h *host.Host, c Config) (*Turns, error) {
	if r.prepare != nil {
		if err := r.prepare(ctx, h); err != nil {
			return nil, err
		}
	}
	spec := load.Spec{
		URL: h.URL + r.path, Header: r.header, Size: int64(r.size),
		Requests: max(c.Requests/r.divisor, c.Concurrency), Concurrency: c.Concurrency, Limit: 10 * time.Minute,
	}
	if r.body != nil {
		spec.Method, spec.Status, spec.Body = http.MethodPost, http.StatusCreated, r.body
	}
	if r.size == 0 {
		first, err := h.Get(ctx, r.path, r.header)
		if err != nil {
			return nil, err
		}
		spec.Size = int64(len(first))
	}
	warm := spec
	warm.Requests = max(spec.Requests/10, c.Concurrency)
	if _, err := load.Run(ctx, h.Client, warm); err != nil {
		return nil, fmt.Errorf("warming up: %w", err)
	}
	spec.Requests = max(spec.Requests/Parts, 1)
	return &Turns{of: r, host: h, spec: spec, profiles: c.Profiles}, nil
}

// Turns is a work of requests under way on one server.
type Turns struct {
	of       requests
	host     *host.Host
	spec     load.Spec // of a part
	profiles string    // Config.Profiles
	finish   func() error
	used     time.Duration
	results  []load.Result
}

// Part does one of Parts of the work.
func (t *Turns) Part(ctx context.Context) error {
	if t.finish == nil {
		t.finish = profile(ctx, t.host, t.profiles, t.of.name, profileSeconds)
	}
	before, err := t.host.Server.CPU()
	if err != nil {
		return err
	}
	result, err := load.Run(ctx, t.host.Client, t.spec)
	if err != nil {
		return err
	}
	after, err := t.host.Server.CPU()
	if err != nil {
		return err
	}
	t.used += after - before
	t.results = append(t.results, result)
	return nil
}

// End returns what all parts took together, of which there is one at least.
func (t *Turns) End() ([]Metric, error) {
	if err := t.finish(); err != nil {
		return nil, err
	}
	all := load.Join(t.results...)
	requests := float64(t.spec.Requests * len(t.results))
	return []Metric{
		{Name: "cpu per request", Unit: "us", Value: micros(t.used) / requests, Goal: t.of.goal, BareGoal: t.of.bare},
		{Name: "p50", Unit: "us", Value: micros(all.Percentile(50))},
		{Name: "p99", Unit: "us", Value: micros(all.Percentile(99))},
	}, nil
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
