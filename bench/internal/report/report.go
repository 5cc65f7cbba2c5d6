// Package report turns measured values into medians and ratios, for people and as JSON.
package report

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"github.com/annex-api/annex/bench/internal/work"
)

// Sample is one value of one server in one round.
type Sample struct {
	Subject string `json:"subject"`
	Round   int    `json:"round"`
	Work    string `json:"work"`
	work.Metric
}

// Row compares the medians over the rounds.
type Row struct {
	Work      string  `json:"work"`
	Metric    string  `json:"metric"`
	Unit      string  `json:"unit"`
	Reference float64 `json:"reference"`
	Ours      float64 `json:"ours"`
	// Ratio is ours by the reference's; 0 when the reference's is not positive.
	Ratio float64 `json:"ratio"`
	// Low and High are the least and the greatest ratio of one round: where they
	// lie far apart, the machine was not quiet.
	Low  float64 `json:"low"`
	High float64 `json:"high"`
	Goal float64 `json:"goal,omitempty"`
}

// Report is everything that one run found.
type Report struct {
	Header  []Fact   `json:"header"`
	Rows    []Row    `json:"rows"`
	Samples []Sample `json:"samples"`
}

// Fact is a line of the header: what was compared, on what.
type Fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Compare makes one row of each metric, in the order of the samples.
func Compare(samples []Sample, reference, ours string) []Row {
	type key struct{ work, metric string }
	values := map[key]map[string][]float64{}
	var rows []Row
	for _, s := range samples {
		k := key{s.Work, s.Name}
		if values[k] == nil {
			values[k] = map[string][]float64{}
			rows = append(rows, Row{Work: s.Work, Metric: s.Name, Unit: s.Unit, Goal: s.Goal})
		}
		values[k][s.Subject] = append(values[k][s.Subject], s.Value)
	}
	for i := range rows {
		r := &rows[i]
		v := values[key{r.Work, r.Metric}]
		r.Reference, r.Ours = Median(v[reference]), Median(v[ours])
		if r.Reference > 0 {
			r.Ratio = r.Ours / r.Reference
		}
		r.Low, r.High = ratios(v[reference], v[ours])
	}
	return rows
}

// ratios is the range of ours by the reference's within one round; zeros if there is none.
func ratios(reference, ours []float64) (low, high float64) {
	for i := range min(len(reference), len(ours)) {
		if reference[i] <= 0 {
			continue
		}
		r := ours[i] / reference[i]
		if low == 0 && high == 0 {
			low, high = r, r
		}
		low, high = min(low, r), max(high, r)
	}
	return low, high
}

// Median is the middle value, or the mean of the two in the middle; 0 of none.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// Table writes the report for people.
func (r Report) Table(w io.Writer) error {
	for _, f := range r.Header {
		if _, err := fmt.Fprintf(w, "%-14s %s\n", f.Name, f.Value); err != nil {
			return err
		}
	}
	if _, err := fmt.Fprintf(w, "\n%-18s %-16s %-5s %10s %10s %7s %13s %6s\n", "work", "metric", "unit", "reference", "annex", "ratio", "over rounds", "goal"); err != nil {
		return err
	}
	for _, row := range r.Rows {
		ratio, over, goal := "-", "", ""
		if row.Ratio != 0 {
			ratio = fmt.Sprintf("%.2fx", row.Ratio)
			over = fmt.Sprintf("%.2f to %.2f", row.Low, row.High)
		}
		if row.Goal > 0 {
			goal = fmt.Sprintf("%.2fx", row.Goal)
		}
		if _, err := fmt.Fprintf(w, "%-18s %-16s %-5s %10.1f %10.1f %7s %13s %6s\n", row.Work, row.Metric, row.Unit, row.Reference, row.Ours, ratio, over, goal); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintln(w, "\nMedians over the rounds, and the range of the ratio in single rounds. Only the ratio counts:\nabsolute values belong to this machine and hour.")
	return err
}

// JSON writes the report with every sample.
func (r Report) JSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}
