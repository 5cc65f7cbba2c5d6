package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/annex-api/annex/bench/internal/evidence"
	"github.com/annex-api/annex/bench/internal/load"
	"github.com/annex-api/annex/kubeapiserver/version"
)

// outcome is what a scenario found on one server.
type outcome struct {
	tally    load.Tally
	measures []measure
	// counted is whether what the goal says of counts holds: what does not
	// depend on how busy the machine is. timely is whether the rest does.
	counted, timely bool
}

func (o outcome) reached() bool { return o.counted && o.timely }

// add shows another load beside the one that is judged, by what became of it.
func (o *outcome) add(name string, t load.Tally) {
	o.measures = append(o.measures, measure{Name: name, Value: float64(t.Sent)})
	for _, kind := range slices.Sorted(maps.Keys(t.Failures)) {
		f := t.Failures[kind]
		o.measures = append(o.measures, measure{Name: "of these " + kind, Value: float64(f.Count), Note: f.Example})
	}
}

// measure is a value besides the counts and latencies.
type measure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit,omitempty"`
	Note  string  `json:"note,omitempty"`
}

func (m measure) String() string {
	text := fmt.Sprintf("%s %.4g", m.Name, m.Value)
	if m.Value == float64(int64(m.Value)) {
		text = fmt.Sprintf("%s %d", m.Name, int64(m.Value))
	}
	if m.Unit != "" {
		text += " " + m.Unit
	}
	return text
}

// row is one line of the table. Times are in milliseconds.
type row struct {
	Scenario string                  `json:"scenario"`
	Title    string                  `json:"title"`
	Subject  string                  `json:"subject"`
	Sent     int                     `json:"sent"`
	Failed   int                     `json:"failed"`
	Slow     int                     `json:"slow"`
	P50      float64                 `json:"p50Ms"`
	P99      float64                 `json:"p99Ms"`
	Measures []measure               `json:"measures,omitempty"`
	Goal     string                  `json:"goal"`
	Reached  bool                    `json:"reached"`
	Counted  bool                    `json:"countsReached"`
	NotRun   string                  `json:"notRun,omitempty"` // why, if it was not
	Failures map[string]load.Failure `json:"failures,omitempty"`
}

func newRow(sc scenario, subject string, o outcome) row {
	return row{
		Scenario: sc.letter, Title: sc.title, Subject: subject, Goal: sc.goal,
		Sent: o.tally.Sent, Failed: o.tally.Failed, Slow: o.tally.Slow,
		P50: millis(o.tally.Percentile(50)), P99: millis(o.tally.Percentile(99)),
		Measures: o.measures, Reached: o.reached(), Counted: o.counted, Failures: o.tally.Failures,
	}
}

func (r row) verdict() string {
	switch {
	case r.NotRun != "":
		return "not run"
	case r.Reached:
		return "reached"
	case r.Counted:
		return "missed in time"
	}
	return "missed"
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

type report struct {
	Short bool  `json:"short"`
	Rows  []row `json:"rows"`
}

// json writes everything, with examples of the failures.
func (r report) json(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// cells are the rows of the table, the head first.
func (r report) cells() [][]string {
	cells := [][]string{{"", "server", "sent", "failed", "slow", "p50 ms", "p99 ms", "also", "goal", ""}}
	for _, x := range r.Rows {
		var also []string
		for _, m := range x.Measures {
			also = append(also, m.String())
		}
		for _, kind := range slices.Sorted(maps.Keys(x.Failures)) {
			also = append(also, fmt.Sprintf("%d: %s", x.Failures[kind].Count, kind))
		}
		counts := []string{"", "", "", "", ""}
		if x.Sent > 0 {
			counts = []string{fmt.Sprint(x.Sent), fmt.Sprint(x.Failed), fmt.Sprint(x.Slow), fmt.Sprintf("%.1f", x.P50), fmt.Sprintf("%.1f", x.P99)}
		}
		cells = append(cells, slices.Concat([]string{x.Scenario, x.Subject}, counts, []string{strings.Join(also, "; "), x.Goal, x.verdict()}))
	}
	return cells
}

// markdown writes the table for a document.
func (r report) markdown(w io.Writer) error {
	form := "The long form"
	if r.Short {
		form = "The short form"
	}
	if _, err := fmt.Fprintf(w, "%s, %d processors, Kubernetes %s.\n\n", form, runtime.NumCPU(), version.Kubernetes); err != nil {
		return err
	}
	return evidence.Table(w, r.cells())
}

// table writes the table in columns.
func (r report) table(w io.Writer) error {
	cells := r.cells()
	widths := make([]int, len(cells[0]))
	for _, line := range cells {
		for i, c := range line {
			widths[i] = max(widths[i], len(c))
		}
	}
	for n, line := range cells {
		for i, c := range line {
			line[i] = c + strings.Repeat(" ", widths[i]-len(c))
		}
		if _, err := fmt.Fprintln(w, "| "+strings.Join(line, " | ")+" |"); err != nil {
			return err
		}
		if n > 0 {
			continue
		}
		for i := range line {
			line[i] = strings.Repeat("-", max(3, widths[i]))
		}
		if _, err := fmt.Fprintln(w, "| "+strings.Join(line, " | ")+" |"); err != nil {
			return err
		}
	}
	return nil
}
