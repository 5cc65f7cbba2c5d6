package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/annex-api/annex/bench/internal/host"
	"github.com/annex-api/annex/bench/internal/report"
	"github.com/annex-api/annex/bench/internal/work"
)

// rest lets servers idle side by side: what the machine does to one it does to
// the other. Each has fresh data.
func (b *bench) rest(ctx context.Context, subjects []string, round int, works []work.Work) (samples []report.Sample, err error) {
	hosts := make([]*host.Host, len(subjects))
	for i, subject := range subjects {
		if hosts[i], err = b.fresh(ctx, subject, fmt.Sprintf("%d-%s-rest", round, subject)); err != nil {
			return nil, fmt.Errorf("%s: %w", subject, err)
		}
		defer func() { err = errors.Join(err, hosts[i].Stop()) }()
	}
	do := func(w work.Work) error {
		began := time.Now()
		metrics := make([][]work.Metric, len(hosts))
		errs := make([]error, len(hosts))
		var wg sync.WaitGroup
		for i, h := range hosts {
			wg.Go(func() {
				if metrics[i], errs[i] = b.one(ctx, h, w); errs[i] != nil {
					errs[i] = fmt.Errorf("%s, %s: %w", subjects[i], w.Name(), errs[i])
				}
			})
		}
		wg.Wait()
		for i, subject := range subjects {
			samples = append(samples, samplesOf(subject, round, w, metrics[i])...)
		}
		b.progress(round, "both", "%s in %v", w.Name(), time.Since(began).Round(time.Millisecond))
		return errors.Join(errs...)
	}
	for _, w := range works {
		if work.IsBefore(w) {
			if err := do(w); err != nil {
				return nil, err
			}
		}
	}
	for i, h := range hosts {
		if err := b.register(ctx, h, subjects[i], round); err != nil {
			return nil, fmt.Errorf("%s: %w", subjects[i], err)
		}
	}
	for _, w := range works {
		if !work.IsBefore(w) {
			if err := do(w); err != nil {
				return nil, err
			}
		}
	}
	return samples, nil
}

// measure does the works in turn, each subject those that it can do, on servers with
// fresh data that all run at the same time.
func (b *bench) measure(ctx context.Context, subjects []string, round int, works []work.Work) (samples []report.Sample, err error) {
	hosts := map[string]*host.Host{}
	for _, subject := range subjects {
		if hosts[subject], err = b.fresh(ctx, subject, fmt.Sprintf("%d-%s", round, subject)); err != nil {
			return nil, fmt.Errorf("%s: %w", subject, err)
		}
		defer func() { err = errors.Join(err, hosts[subject].Stop()) }()
		if subject != bare {
			if err := b.register(ctx, hosts[subject], subject, round); err != nil {
				return nil, fmt.Errorf("%s: %w", subject, err)
			}
		}
	}
	for _, w := range works {
		var able []string
		for _, subject := range subjects {
			if subject != bare || w.Layer() {
				able = append(able, subject)
			}
		}
		began := time.Now()
		metrics, err := b.turns(ctx, w, able, hosts)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", w.Name(), err)
		}
		for _, subject := range able {
			samples = append(samples, samplesOf(subject, round, w, metrics[subject])...)
		}
		b.progress(round, "all", "%s in %v", w.Name(), time.Since(began).Round(time.Millisecond))
	}
	return samples, nil
}

// turns does one work on each subject: in parts, in turn, where the work has some.
func (b *bench) turns(ctx context.Context, w work.Work, subjects []string, hosts map[string]*host.Host) (map[string][]work.Metric, error) {
	all := map[string][]work.Metric{}
	parted, ok := w.(work.Parted)
	if !ok {
		for _, subject := range subjects {
			metrics, err := b.one(ctx, hosts[subject], w)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", subject, err)
			}
			all[subject] = metrics
		}
		return all, nil
	}
	turns := map[string]*work.Turns{}
	for _, subject := range subjects {
		t, err := parted.Begin(ctx, hosts[subject], b.workloads)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", subject, err)
		}
		turns[subject] = t
	}
	for _, subject := range subjects {
		if err := hosts[subject].Calm(ctx); err != nil {
			return nil, fmt.Errorf("%s: %w", subject, err)
		}
	}
	for part := range work.Parts {
		for i := range subjects {
			subject := subjects[(part+i)%len(subjects)] // each is the first in its turn
			if err := turns[subject].Part(ctx); err != nil {
				return nil, fmt.Errorf("%s: %w", subject, err)
			}
		}
	}
	for _, subject := range subjects {
		metrics, err := turns[subject].End()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", subject, err)
		}
		all[subject] = metrics
	}
	return all, nil
}

// one does one work once the server has come to rest: what the work before left
// to do is not this one's.
func (b *bench) one(ctx context.Context, h *host.Host, w work.Work) ([]work.Metric, error) {
	if err := h.Calm(ctx); err != nil {
		return nil, err
	}
	return w.Run(ctx, h, b.workloads)
}

// fresh starts a subject in a folder of its own.
func (b *bench) fresh(ctx context.Context, subject, folder string) (*host.Host, error) {
	dir := filepath.Join(b.dir, folder)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the server's folder: %w", err)
	}
	return b.start(ctx, subject, dir)
}

// register registers the APIServices and waits until they are available.
func (b *bench) register(ctx context.Context, h *host.Host, subject string, round int) error {
	took, err := h.Register(ctx, 0, b.workloads.APIServices, b.port, b.caBundle)
	if err != nil {
		return err
	}
	b.progress(round, subject, "ready after %v, %d APIServices available after %v",
		h.Startup.Round(time.Millisecond), b.workloads.APIServices, took.Round(time.Millisecond))
	return nil
}

func (b *bench) progress(round int, subject, format string, args ...any) {
	fmt.Fprintf(os.Stderr, "round %d of %d, %-9s %s\n", round, b.rounds, subject, fmt.Sprintf(format, args...))
}

func samplesOf(subject string, round int, w work.Work, metrics []work.Metric) []report.Sample {
	samples := make([]report.Sample, len(metrics))
	for i, m := range metrics {
		samples[i] = report.Sample{Subject: subject, Round: round, Work: w.Name(), Metric: m}
	}
	return samples
}
