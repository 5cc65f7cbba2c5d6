package scale

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/annex-api/annex/bench/internal/report"
)

// curve is a server whose memory is a function of what is registered.
func curve(subject string, f func(n float64) float64) []Point {
	var points []Point
	for _, n := range []int{0, 100, 250, 500, 1000} {
		points = append(points, Point{Subject: subject, APIServices: n, Values: map[string]float64{memory.Name: f(float64(n))}})
	}
	return append(points, Point{Subject: subject, APIServices: 1000, CRDs: 500, Values: map[string]float64{memory.Name: 1e9, crds.Name: 3}})
}

func TestGrowthIsJudgedByItsIncrements(t *testing.T) {
	for name, c := range map[string]struct {
		f            func(n float64) float64
		flat, linear bool
	}{
		"constant":           {func(float64) float64 { return 300 }, true, true},
		"hardly":             {func(n float64) float64 { return 300 + n*0.01 }, true, true},
		"falling":            {func(n float64) float64 { return 3000 - n }, true, true},
		"linear":             {func(n float64) float64 { return 10 + 3*n }, false, true},
		"root":               {func(n float64) float64 { return math.Sqrt(n) }, false, true},
		"n log n":            {func(n float64) float64 { return n * math.Log(n+1) }, false, true},
		"square":             {func(n float64) float64 { return n * n }, false, false},
		"square over a base": {func(n float64) float64 { return 300 + n*n/1000 }, false, false},
		"noise":              {func(n float64) float64 { return 300 + n/100 + max(0, n-500)/14 }, false, true},
		"late only":          {func(n float64) float64 { return 300 + max(0, n-500) }, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			got := GrowthOf(append(curve("other", math.Sqrt), curve("it", c.f)...), "it")
			if len(got) != 1 || got[0].Flat != c.flat || got[0].Linear != c.linear || got[0].Subject != "it" || got[0].Measure != memory {
				t.Errorf("got %+v, want flat %v, linear %v", got, c.flat, c.linear)
			}
		})
	}
}

func TestGrowthIsSaid(t *testing.T) {
	for _, c := range []struct {
		g    Growth
		want string
	}{
		{Growth{Early: 2, Late: 2, Linear: true}, "at most linear (late/early increment 1.00, +0 % to the line)"},
		{Growth{Early: 1, Late: 3, Excess: 0.4}, "FASTER than linear (late/early increment 3.00, +40 % to the line)"},
		{Growth{Early: -1, Flat: true, Linear: true}, "does not grow (late/early increment -, +0 % to the line)"},
	} {
		if got := c.g.String(); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

func TestAPointIsOneLine(t *testing.T) {
	p := Point{Subject: "ours", APIServices: 1000, CRDs: 500, Values: map[string]float64{memory.Name: 300.123456, crds.Name: 3}}
	if got, want := p.String(), "ours      1000 + 500 CRDs APIServices: PSS 300.1 MiB; until CRDs in /apis 3 s"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func newReport() Report {
	points := append(curve("ref", func(n float64) float64 { return 200 + n }), curve("ours", func(n float64) float64 { return 100 + n/2 })...)
	return Report{
		Header: []report.Fact{{Name: "cpu", Value: "fast"}}, Points: points,
		Growth: append(GrowthOf(points, "ref"), GrowthOf(points, "ours")...), Reference: "ref", Ours: "ours",
	}
}

func TestTableHoldsEveryPointAndVerdict(t *testing.T) {
	var b bytes.Buffer
	if err := newReport().Table(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"fast", "1200.00", "600.00", "0.50x", "1000 + 500 CRDs", "at most linear (late/early increment 1.00, +0 % to the line)"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}

func TestJSONHoldsEveryPoint(t *testing.T) {
	var b bytes.Buffer
	if err := newReport().JSON(&b); err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(b.Bytes(), &back); err != nil || len(back.Points) != 12 || len(back.Growth) != 2 {
		t.Errorf("read back %+v, %v", back, err)
	}
}

func TestOnlyMeasuresWithACurveAreDrawn(t *testing.T) {
	var b bytes.Buffer
	if err := newReport().SVG(&b); err != nil {
		t.Fatal(err)
	}
	if svg := b.String(); strings.Count(svg, "<g ") != 1 || !strings.Contains(svg, "PSS, MiB") || !strings.Contains(svg, "+500 CRDs") {
		t.Error(svg)
	}
}

func TestMarkdownHasALineOfEachMeasureAndServer(t *testing.T) {
	var b bytes.Buffer
	if err := newReport().Markdown(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"cpu: fast.\n\n",
		"| APIServices |  | 0 | 100 | 250 | 500 | 1000 | 1000 + 500 CRDs | growth |\n",
		"| PSS, MiB | reference | 200.0 | 300.0 | 450.0 | 700.0 | 1200.0 | 1000000000.0 | at most linear |\n",
		"| PSS, MiB | Annex | 100.0 | 150.0 | 225.0 | 350.0 | 600.0 | 1000000000.0 | at most linear |\n",
		"| until CRDs in /apis, s | Annex |  |  |  |  |  | 3.0 |  |\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing in\n%s", want, b.String())
		}
	}
}
