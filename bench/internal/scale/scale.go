// Package scale measures how the cost of a server grows with what is registered.
package scale

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/annex-api/annex/bench/internal/host"
	"github.com/annex-api/annex/bench/internal/work"
)

// Measure is one thing that may grow.
type Measure struct {
	Name string `json:"name"`
	Unit string `json:"unit"`
}

// The measures, as Config's steps are measured.
var (
	available = Measure{"until available", "s"}
	ready     = Measure{"start to ready", "s"}
	startCPU  = Measure{"cpu of the start", "s"}
	memory    = Measure{"PSS", "MiB"}
	idle      = Measure{"idle cpu", "ms/s"}
	discovery = Measure{"cpu per /apis", "us"}
	crds      = Measure{"until CRDs in /apis", "s"}
)

// Measures is every measure, in the order in which people read them.
func Measures() []Measure {
	return []Measure{available, ready, startCPU, memory, idle, discovery, crds}
}

// Config says what is registered. All numbers are positive but for the first step.
type Config struct {
	Steps       []int // APIServices, ascending
	CRDs        int   // registered after the last step
	IdleSeconds int
	Requests    int // for the discovery document, at each step
	Concurrency int
	Port        int    // of the extension server
	CABundle    []byte // that the extension server's certificate is checked with
}

// Subject is a server, which has nothing registered yet.
type Subject struct {
	Name string
	Host *host.Host
}

// Point is what one server costs with so much registered.
type Point struct {
	Subject     string             `json:"subject"`
	APIServices int                `json:"apiServices"`
	CRDs        int                `json:"crds,omitempty"`
	Values      map[string]float64 `json:"values"` // by the name of the measure
}

// Run takes the servers through the steps. At each it registers what is new, then
// restarts each server, so that what is measured depends on what is stored and not
// on what the server did before. progress is told of each point.
func Run(ctx context.Context, subjects []Subject, c Config, progress func(Point)) ([]Point, error) {
	var points []Point
	registered := make([]time.Duration, len(subjects)) // over all steps so far
	before := 0
	for _, step := range c.Steps {
		now := make([]Point, len(subjects))
		for i, s := range subjects {
			took, err := s.Host.Register(ctx, before, step, c.Port, c.CABundle)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", s.Name, err)
			}
			registered[i] += took
			now[i] = Point{Subject: s.Name, APIServices: step, Values: map[string]float64{}}
			if step > 0 {
				now[i].Values[available.Name] = registered[i].Seconds()
			}
		}
		if err := measure(ctx, subjects, now, c); err != nil {
			return nil, err
		}
		for _, p := range now {
			progress(p)
		}
		points = append(points, now...)
		before = step
	}
	now := make([]Point, len(subjects))
	for i, s := range subjects {
		took, err := s.Host.RegisterCRDs(ctx, c.CRDs)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.Name, err)
		}
		now[i] = Point{Subject: s.Name, APIServices: before, CRDs: c.CRDs, Values: map[string]float64{crds.Name: took.Seconds()}}
	}
	if err := measure(ctx, subjects, now, c); err != nil {
		return nil, err
	}
	for _, p := range now {
		progress(p)
	}
	return append(points, now...), nil
}

// measure adds to the points, one of each subject. Starts and requests are
// measured one server at a time; servers that rest do not disturb each other.
func measure(ctx context.Context, subjects []Subject, points []Point, c Config) error {
	for _, phase := range []struct {
		together bool
		do       func(context.Context, *host.Host, Point, Config) error
	}{{false, start}, {true, calm}, {false, requests}, {true, resting}} {
		errs := make([]error, len(subjects))
		var wg sync.WaitGroup
		for i, s := range subjects {
			wg.Go(func() {
				if err := phase.do(ctx, s.Host, points[i], c); err != nil {
					errs[i] = fmt.Errorf("%s with %d APIServices: %w", s.Name, points[i].APIServices, err)
				}
			})
			if !phase.together {
				wg.Wait()
			}
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			return err
		}
	}
	return nil
}

func start(ctx context.Context, h *host.Host, p Point, _ Config) error {
	if err := h.Restart(ctx); err != nil {
		return err
	}
	p.Values[ready.Name] = h.Startup.Seconds()
	if err := h.Discovered(ctx, p.APIServices); err != nil {
		return err
	}
	return h.DiscoveredCRDs(ctx, p.CRDs)
}

// calm waits until the work of the start is done, which goes on after the server
// is ready, and notes what it cost.
func calm(ctx context.Context, h *host.Host, p Point, _ Config) error {
	if err := h.Calm(ctx); err != nil {
		return err
	}
	used, err := h.Server.CPU()
	p.Values[startCPU.Name] = used.Seconds()
	return err
}

func requests(ctx context.Context, h *host.Host, p Point, c Config) error {
	metrics, err := work.Discovery().Run(ctx, h, work.Config{Requests: c.Requests, Concurrency: c.Concurrency})
	if err != nil {
		return err
	}
	p.Values[discovery.Name] = metrics[0].Value
	return nil
}

// resting measures what a server holds and uses while nobody asks it anything.
func resting(ctx context.Context, h *host.Host, p Point, c Config) error {
	m, err := h.Settle(ctx)
	if err != nil {
		return err
	}
	p.Values[memory.Name] = float64(m.PSS) / (1 << 20)
	used, err := h.Idle(ctx, time.Duration(c.IdleSeconds)*time.Second)
	p.Values[idle.Name] = used
	return err
}
