// Package report turns measured values into medians and ratios, for people and as JSON.
package report

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/annex-api/annex/bench/internal/evidence"
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
	// Bare is the bare proxy's value, ToBare ours by it; 0 where it has none.
	Bare     float64 `json:"bare,omitempty"`
	ToBare   float64 `json:"toBare,omitempty"`
	BareGoal float64 `json:"bareGoal,omitempty"`
}

// Subjects are the names of what is compared.
type Subjects struct{ Reference, Ours, Bare string }

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
func Compare(samples []Sample, s Subjects) []Row {
	type key struct{ work, metric string }
	values := map[key]map[string][]float64{}
	var rows []Row
	for _, v := range samples {
		k := key{v.Work, v.Name}
		if values[k] == nil {
			values[k] = map[string][]float64{}
			rows = append(rows, Row{Work: v.Work, Metric: v.Name, Unit: v.Unit, Goal: v.Goal, BareGoal: v.BareGoal})
		}
		values[k][v.Subject] = append(values[k][v.Subject], v.Value)
	}
	for i := range rows {
		r := &rows[i]
		v := values[key{r.Work, r.Metric}]
		r.Reference, r.Ours, r.Bare = Median(v[s.Reference]), Median(v[s.Ours]), Median(v[s.Bare])
		if r.Reference > 0 {
			r.Ratio = r.Ours / r.Reference
		}
		if r.Bare > 0 {
			r.ToBare = r.Ours / r.Bare
		}
		r.Low, r.High = ratios(v[s.Reference], v[s.Ours])
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
	if _, err := fmt.Fprintf(w, "\n"+line, "work", "metric", "unit", "reference", "annex", "ratio", "over rounds", "goal", "bare", "to bare", "goal"); err != nil {
		return err
	}
	for _, row := range r.Rows {
		over, bare := "", ""
		if row.Ratio != 0 {
			over = fmt.Sprintf("%.2f to %.2f", row.Low, row.High)
		}
		if row.Bare != 0 {
			bare = number(row.Bare)
		}
		_, err := fmt.Fprintf(w, line, row.Work, row.Metric, row.Unit, number(row.Reference), number(row.Ours),
			cmp.Or(times(row.Ratio), "-"), over, times(row.Goal), bare, times(row.ToBare), times(row.BareGoal))
		if err != nil {
			return err
		}
	}
	if _, err := fmt.Fprintln(w, "\nMedians over the rounds, and the range of the ratio in single rounds. Only the ratio counts:\nabsolute values belong to this machine and hour."); err != nil {
		return err
	}
	missed, goals := r.Missed()
	if goals > 0 && len(missed) == 0 {
		missed = []string{fmt.Sprintf("All %d goals are reached.", goals)}
	}
	for _, m := range missed {
		if _, err := fmt.Fprintln(w, m); err != nil {
			return err
		}
	}
	return nil
}

// Markdown writes the report for a document.
func (r Report) Markdown(w io.Writer) error {
	if err := Facts(w, r.Header); err != nil {
		return err
	}
	table := [][]string{{"work", "measured", "reference", "Annex", "ratio", "over rounds", "goal", "bare", "to bare", "goal"}}
	for _, row := range r.Rows {
		over, bare := "", ""
		if row.Ratio != 0 {
			over = fmt.Sprintf("%.2f to %.2f", row.Low, row.High)
		}
		if row.Bare != 0 {
			bare = number(row.Bare)
		}
		table = append(table, []string{
			row.Work, row.Metric + ", " + row.Unit, number(row.Reference), number(row.Ours), times(row.Ratio), over,
			judged(row.Ratio, row.Goal), bare, times(row.ToBare), judged(row.ToBare, row.BareGoal),
		})
	}
	return evidence.Table(w, table)
}

// Facts writes what was compared, on what, as one paragraph of a document.
func Facts(w io.Writer, facts []Fact) error {
	words := make([]string, len(facts))
	for i, f := range facts {
		words[i] = f.Name + ": " + f.Value
	}
	_, err := fmt.Fprintf(w, "%s.\n\n", strings.Join(words, "; "))
	return err
}

// judged is a goal with whether it was reached; empty where there is none.
func judged(ratio, goal float64) string {
	switch {
	case goal == 0:
		return ""
	case reached(ratio, goal):
		return times(goal) + " reached"
	}
	return times(goal) + " missed"
}

// reached: without a ratio a goal is not.
func reached(ratio, goal float64) bool { return ratio > 0 && ratio <= goal }

// Missed is a sentence for each goal that is not reached, and how many goals there
// are.
func (r Report) Missed() (missed []string, goals int) {
	hold := func(row Row, to string, ratio, goal float64) {
		if goal == 0 {
			return
		}
		goals++
		if !reached(ratio, goal) {
			missed = append(missed, fmt.Sprintf("Missed: %s, %s: %.3fx of %s, goal %.2fx.", row.Work, row.Metric, ratio, to, goal))
		}
	}
	for _, row := range r.Rows {
		hold(row, "the reference", row.Ratio, row.Goal)
		hold(row, "the bare proxy", row.ToBare, row.BareGoal)
	}
	return missed, goals
}

const line = "%-18s %-16s %-5s %10s %10s %7s %13s %6s %9s %8s %6s\n"

func number(v float64) string { return fmt.Sprintf("%.1f", v) }

// times is a ratio for people, empty for none.
func times(ratio float64) string {
	if ratio == 0 {
		return ""
	}
	return fmt.Sprintf("%.2fx", ratio)
}

// JSON writes the report with every sample.
func (r Report) JSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}
