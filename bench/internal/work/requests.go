package work

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/annex-api/annex/bench/internal/fixture"
	"github.com/annex-api/annex/bench/internal/host"
	"github.com/annex-api/annex/bench/internal/load"
)

// requests sends one GET many times.
type requests struct {
	name    string
	path    string
	header  http.Header
	size    int     // bytes of every answer; 0: all must be as long as the first
	divisor int     // of Config.Requests
	goal    float64 // of the processor time
	prepare func(context.Context, *host.Host) error
}

func (r requests) Name() string { return r.name }

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
	return requests{name: "proxied-get", path: fixture.Path(0) + "/one", size: fixture.ItemBytes, divisor: 1, goal: 0.5}
}

func proxiedList() Work {
	return requests{name: "proxied-list", path: fixture.Path(0), size: len(fixture.List(fixture.Group(0))), divisor: 4, goal: 0.7}
}

func aggregatedDiscovery() Work {
	return requests{
		name: "discovery", path: "/apis", divisor: 4, goal: 0.5,
		header: http.Header{"Accept": {host.AggregatedDiscovery}},
	}
}

func (r requests) Run(ctx context.Context, h *host.Host, c Config) ([]Metric, error) {
	if r.prepare != nil {
		if err := r.prepare(ctx, h); err != nil {
			return nil, err
		}
	}
	first, err := h.Get(ctx, r.path, r.header)
	if err != nil {
		return nil, err
	}
	if r.size != 0 && len(first) != r.size {
		return nil, fmt.Errorf("GET %s: %d bytes, want %d", r.path, len(first), r.size)
	}
	spec := load.Spec{
		URL: h.URL + r.path, Header: r.header, Size: int64(len(first)),
		Requests: max(c.Requests/r.divisor, c.Concurrency), Concurrency: c.Concurrency, Limit: 10 * time.Minute,
	}
	warm := spec
	warm.Requests = max(spec.Requests/10, c.Concurrency)
	if _, err := load.Run(ctx, h.Client, warm); err != nil {
		return nil, fmt.Errorf("warming up: %w", err)
	}
	finish, err := profile(ctx, h, c.Profiles, r.name)
	if err != nil {
		return nil, err
	}
	before, err := h.Server.CPU()
	if err != nil {
		return nil, err
	}
	result, err := load.Run(ctx, h.Client, spec)
	err = errors.Join(err, finish())
	if err != nil {
		return nil, err
	}
	after, err := h.Server.CPU()
	if err != nil {
		return nil, err
	}
	return []Metric{
		{Name: "cpu per request", Unit: "us", Value: micros(after-before) / float64(spec.Requests), Goal: r.goal},
		{Name: "p50", Unit: "us", Value: micros(result.Percentile(50))},
		{Name: "p99", Unit: "us", Value: micros(result.Percentile(99))},
	}, nil
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

const profileSeconds = 3

// profile begins to write a processor profile of the server to
// <folder>/<server>-<name>.pprof; finish waits until it is there. Without a
// folder nothing is done.
func profile(ctx context.Context, h *host.Host, folder, name string) (finish func() error, err error) {
	if folder == "" {
		return func() error { return nil }, nil
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, fmt.Errorf("making the folder for profiles: %w", err)
	}
	done := make(chan error, 1)
	go func() {
		data, err := h.Get(ctx, fmt.Sprintf("/debug/pprof/profile?seconds=%d", profileSeconds), nil)
		if err != nil {
			done <- fmt.Errorf("profiling: %w", err)
			return
		}
		done <- os.WriteFile(filepath.Join(folder, h.Server.Name()+"-"+name+".pprof"), data, 0o600)
	}()
	return func() error { return <-done }, nil
}
