package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/annex-api/annex/bench/internal/evidence"
	"github.com/annex-api/annex/bench/internal/host"
	"github.com/annex-api/annex/bench/internal/report"
	"github.com/annex-api/annex/bench/internal/scale"
)

// growth takes both servers, side by side, through growing numbers of APIServices.
func (b *bench) growth(ctx context.Context) (err error) {
	c := b.scale
	c.Port, c.CABundle = b.port, b.caBundle
	var subjects []scale.Subject
	for _, name := range []string{reference, ours} {
		var h *host.Host
		if h, err = b.fresh(ctx, name, name); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, h.Stop()) }()
		subjects = append(subjects, scale.Subject{Name: name, Host: h})
	}
	began := time.Now()
	points, err := scale.Run(ctx, subjects, c, func(p scale.Point) {
		fmt.Fprintf(os.Stderr, "after %v, %v\n", time.Since(began).Round(time.Second), p)
	})
	if err != nil {
		return err
	}
	workload := fmt.Sprintf("%v APIServices, then %d CRDs, idle %d s, %d discovery requests", c.Steps, c.CRDs, c.IdleSeconds, c.Requests)
	r := scale.Report{
		Header: append(b.header(), report.Fact{Name: "workload", Value: workload}),
		Points: points, Growth: slices.Concat(scale.GrowthOf(points, reference), scale.GrowthOf(points, ours)),
		Reference: reference, Ours: ours,
	}
	slices.SortStableFunc(r.Growth, func(x, y scale.Growth) int { return strings.Compare(x.Measure.Name, y.Measure.Name) })
	if err := r.Table(os.Stdout); err != nil {
		return fmt.Errorf("printing the table: %w", err)
	}
	return errors.Join(save(b.json, r.JSON), save(b.plot, r.SVG), evidence.Replace(b.markdown, "growth", r.Markdown))
}
