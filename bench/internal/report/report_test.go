package report

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/annex-api/annex/bench/internal/work"
)

func sample(subject string, round int, name string, value float64) Sample {
	return Sample{subject, round, "w", work.Metric{Name: name, Unit: "us", Value: value, Goal: 0.5, BareGoal: 1.5}}
}

var subjects = Subjects{Reference: "ref", Ours: "ours", Bare: "bare"}

func TestCompareTakesMediansOfEachServer(t *testing.T) {
	rows := Compare([]Sample{
		sample("ref", 1, "a", 100), sample("ours", 1, "a", 50),
		sample("ref", 2, "a", 900), sample("ours", 2, "a", 10),
		sample("ref", 3, "a", 200), sample("ours", 3, "a", 60),
		sample("bare", 1, "a", 40), sample("bare", 2, "a", 10),
		sample("ref", 1, "b", 0), sample("ours", 1, "b", 7),
	}, subjects)
	want := []Row{
		{Work: "w", Metric: "a", Unit: "us", Reference: 200, Ours: 50, Ratio: 0.25, Low: 10.0 / 900, High: 0.5, Goal: 0.5, Bare: 25, ToBare: 2, BareGoal: 1.5},
		{Work: "w", Metric: "b", Unit: "us", Reference: 0, Ours: 7, Ratio: 0, Goal: 0.5, BareGoal: 1.5},
	}
	if len(rows) != 2 || rows[0] != want[0] || rows[1] != want[1] {
		t.Errorf("got %+v, want %+v", rows, want)
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		in   []float64
		want float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1}, 5}, {[]float64{9, 1, 4}, 4}} {
		if got := Median(c.in); got != c.want {
			t.Errorf("Median(%v) = %v, want %v", c.in, got, c.want)
		}
	}
}

func TestMissedGoals(t *testing.T) {
	for name, c := range map[string]struct {
		rows []Row
		want string
	}{
		"none": {[]Row{{Work: "w", Ratio: 9}}, ""},
		"all":  {[]Row{{Work: "w", Ratio: 0.5, Goal: 0.5, ToBare: 1.5, BareGoal: 1.5}}, "All 2 goals are reached."},
		"one by little": {
			[]Row{{Work: "w", Metric: "m", Ratio: 0.501, Goal: 0.5, ToBare: 1, BareGoal: 1.5}},
			"Missed: w, m: 0.501x of the reference, goal 0.50x.",
		},
		"to bare":         {[]Row{{Work: "w", Metric: "m", ToBare: 1.6, BareGoal: 1.5}}, "Missed: w, m: 1.600x of the bare proxy, goal 1.50x."},
		"nothing to hold": {[]Row{{Work: "w", Metric: "m", Goal: 0.5}}, "Missed: w, m: 0.000x of the reference, goal 0.50x."},
	} {
		var table bytes.Buffer
		if err := (Report{Rows: c.rows}).Table(&table); err != nil {
			t.Fatal(err)
		}
		_, verdict, _ := strings.Cut(table.String(), "machine and hour.\n")
		if strings.TrimSpace(verdict) != c.want {
			t.Errorf("%s: %q, want %q", name, verdict, c.want)
		}
	}
}

func TestTableAndJSONHoldTheRatio(t *testing.T) {
	samples := []Sample{sample("ref", 1, "a", 100), sample("ours", 1, "a", 50), sample("bare", 1, "a", 40)}
	r := Report{Header: []Fact{{"cpu", "fast"}}, Rows: Compare(samples, subjects), Samples: samples}
	var table, text bytes.Buffer
	if err := r.Table(&table); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"0.50x", "1.25x", "1.50x", "fast"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("no %s in the table:\n%s", want, table.String())
		}
	}
	if err := r.JSON(&text); err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(text.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	if len(back.Samples) != 3 || back.Samples[1] != samples[1] || back.Rows[0] != r.Rows[0] {
		t.Errorf("read back %+v", back)
	}
}

func TestMarkdownSaysWhatWasReached(t *testing.T) {
	rows := []Row{
		{Work: "w", Metric: "m", Unit: "us", Reference: 100, Ours: 50, Ratio: 0.5, Low: 0.4, High: 0.6, Goal: 0.5, Bare: 40, ToBare: 1.25, BareGoal: 1.2},
		{Work: "w", Metric: "n", Unit: "MiB", Ours: 7, Goal: 1},
		{Work: "w", Metric: "o", Unit: "s", Reference: 2, Ours: 1, Ratio: 0.5, Low: 0.5, High: 0.5},
	}
	var b bytes.Buffer
	if err := (Report{Header: []Fact{{"cpu", "fast"}, {"rounds", "3"}}, Rows: rows}).Markdown(&b); err != nil {
		t.Fatal(err)
	}
	want := strings.Join([]string{
		"cpu: fast; rounds: 3.",
		"",
		"| work | measured | reference | Annex | ratio | over rounds | goal | bare | to bare | goal |",
		"| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
		"| w | m, us | 100.0 | 50.0 | 0.50x | 0.40 to 0.60 | 0.50x reached | 40.0 | 1.25x | 1.20x missed |",
		"| w | n, MiB | 0.0 | 7.0 |  |  | 1.00x missed |  |  |  |",
		"| w | o, s | 2.0 | 1.0 | 0.50x | 0.50 to 0.50 |  |  |  |  |",
		"",
	}, "\n")
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
}
