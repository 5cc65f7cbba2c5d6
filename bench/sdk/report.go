package main

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/annex-api/annex/bench/internal/evidence"
	measured "github.com/annex-api/annex/bench/internal/report"
)

// report is a whole run.
type report struct {
	options  options
	versions string
	samples  []sampled
}

// row is a metric, with its values by subject, a value for each round.
type row struct {
	work, metric string
	goal         float64
	values       map[string][]float64
}

// rows are the metrics in the order of the samples.
func (r report) rows() []row {
	var rows []row
	for _, s := range r.samples {
		i := slices.IndexFunc(rows, func(r row) bool { return r.work == s.Work && r.metric == s.Metric })
		if i < 0 {
			i = len(rows)
			rows = append(rows, row{work: s.Work, metric: s.Metric, goal: s.Goal, values: map[string][]float64{}})
		}
		rows[i].values[s.Subject] = append(rows[i].values[s.Subject], s.Value)
	}
	return rows
}

// ratio is the SDK's median by sample-apiserver's, with the range of single rounds.
func (r row) ratio() (ratio, low, high float64) {
	theirs, ours := r.values[sample], r.values[sdk]
	if len(theirs) == 0 || len(theirs) != len(ours) {
		return 0, 0, 0
	}
	for i := range theirs {
		single := ours[i] / theirs[i]
		if i == 0 {
			low, high = single, single
		}
		low, high = min(low, single), max(high, single)
	}
	return measured.Median(ours) / measured.Median(theirs), low, high
}

func (r row) verdict() string {
	ratio, _, _ := r.ratio()
	switch {
	case r.goal == 0:
		return ""
	case ratio <= r.goal:
		return fmt.Sprintf("%.2fx reached", r.goal)
	}
	return fmt.Sprintf("%.2fx missed", r.goal)
}

func (r report) head() string {
	s := r.options.sizes
	return fmt.Sprintf("%s; %d rounds; %d objects, %d requests, %d at a time; %d watches with %d events a second.", r.versions, r.options.rounds, s.Objects, s.Requests, s.Concurrency, s.Watches, s.Rate)
}

// compared is the SDK beside sample-apiserver.
func (r report) compared(w writer) error {
	if _, err := fmt.Fprintf(w, "%s\n\n", r.head()); err != nil {
		return err
	}
	return evidence.Table(w, r.comparison())
}

func (r report) comparison() [][]string {
	cells := [][]string{{"work", "measured", "sample-apiserver", "SDK", "ratio", "over rounds", "goal"}}
	for _, x := range r.rows() {
		ratio, low, high := x.ratio()
		if ratio == 0 {
			continue
		}
		cells = append(cells, []string{
			x.work, x.metric, number(x.values[sample]), number(x.values[sdk]),
			fmt.Sprintf("%.2fx", ratio), fmt.Sprintf("%.2f to %.2f", low, high), x.verdict(),
		})
	}
	return cells
}

// storage is the SDK over each storage.
func (r report) storage(w writer) error { return evidence.Table(w, r.beside()) }

func (r report) beside() [][]string {
	head := []string{"work", "measured", "etcd"}
	cells := [][]string{append(head, r.options.drivers...)}
	for _, x := range r.rows() {
		line := []string{x.work, x.metric, number(x.values[sdk])}
		for _, driver := range r.options.drivers {
			value := number(x.values[driver])
			if x.work == "start" && driver != postgres && len(x.values[driver]) > 0 {
				value += map[bool]string{true: ", below 1000 reached", false: ", below 1000 missed"}[measured.Median(x.values[driver]) < startGoal]
			}
			line = append(line, value)
		}
		cells = append(cells, line)
	}
	return cells
}

func number(values []float64) string {
	if len(values) == 0 {
		return ""
	}
	return fmt.Sprintf("%.1f", measured.Median(values))
}

// tables writes both for people.
func (r report) tables(w writer) error {
	if _, err := fmt.Fprintln(w, r.head()); err != nil {
		return err
	}
	for _, cells := range [][][]string{r.comparison(), r.beside()} {
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, line := range cells {
			if _, err := fmt.Fprintln(t, strings.Join(line, "\t")); err != nil {
				return err
			}
		}
		if _, err := fmt.Fprintln(t); err != nil {
			return err
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	return nil
}
