package scale

import (
	"fmt"
	"math"
)

const (
	// tolerance is the ratio of increments up to which growth counts as linear:
	// twice as many items that cost n² have a ratio of 3, n log n of about 1.2.
	tolerance = 1.5
	// noise is how far, relative to it, the last value may lie above the line
	// through the first half before the increments are judged at all.
	noise = 0.15
	// flatness is the growth, over the whole range and relative to the first
	// value, below which there is none that could be told from noise.
	flatness = 0.1
)

// Growth tells how a measure of one server grows with APIServices.
type Growth struct {
	Measure Measure `json:"measure"`
	Subject string  `json:"subject"`
	// Early and Late are what one APIService adds in the first and in the second
	// half of the range, in the measure's unit.
	Early float64 `json:"early"`
	Late  float64 `json:"late"`
	// Excess is how far, relative to it, the last value lies above the line
	// through the first half.
	Excess float64 `json:"excess"`
	// Flat: it hardly grows. Linear: at most linearly, which includes Flat.
	Flat   bool `json:"flat"`
	Linear bool `json:"linear"`
}

// String says it for people.
func (g Growth) String() string {
	ratio := "-"
	if g.Early > 0 {
		ratio = fmt.Sprintf("%.2f", g.Late/g.Early)
	}
	return fmt.Sprintf("%s (late/early increment %s, %+.0f %% to the line)", g.verdict(), ratio, 100*g.Excess)
}

func (g Growth) verdict() string {
	switch {
	case g.Flat:
		return "does not grow"
	case g.Linear:
		return "at most linear"
	}
	return "FASTER than linear"
}

type xy struct{ x, y float64 }

// GrowthOf judges each measure of a server that has values at three steps or more.
func GrowthOf(points []Point, subject string) []Growth {
	var all []Growth
	for _, m := range Measures() {
		var curve []xy
		for _, p := range points {
			if v, ok := p.Values[m.Name]; ok && p.Subject == subject && p.CRDs == 0 {
				curve = append(curve, xy{float64(p.APIServices), v})
			}
		}
		if len(curve) < 3 {
			continue
		}
		g := Growth{Measure: m, Subject: subject}
		g.judge(curve)
		all = append(all, g)
	}
	return all
}

// judge compares the range's halves; the curve is ascending in x.
func (g *Growth) judge(curve []xy) {
	first, last := curve[0], curve[len(curve)-1]
	middle := curve[1]
	for _, p := range curve[1 : len(curve)-1] {
		if half := (first.x + last.x) / 2; math.Abs(p.x-half) < math.Abs(middle.x-half) {
			middle = p
		}
	}
	g.Early = (middle.y - first.y) / (middle.x - first.x)
	g.Late = (last.y - middle.y) / (last.x - middle.x)
	// A curve that falls at first foretells no less than what it began with.
	if line := max(middle.y+g.Early*(last.x-middle.x), first.y); line > 0 {
		g.Excess = last.y/line - 1
	}
	g.Flat = last.y-first.y <= flatness*first.y
	g.Linear = g.Flat || g.Excess <= noise || g.Late <= tolerance*max(g.Early, 0)
}
