package scale

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/annex-api/annex/bench/internal/evidence"
	"github.com/annex-api/annex/bench/internal/plot"
	"github.com/annex-api/annex/bench/internal/report"
)

// Report is everything that a run found about two servers.
type Report struct {
	Header    []report.Fact `json:"header"`
	Points    []Point       `json:"points"`
	Growth    []Growth      `json:"growth"`
	Reference string        `json:"-"` // the names of the subjects
	Ours      string        `json:"-"`
}

// Table writes the report for people.
func (r Report) Table(w io.Writer) error {
	for _, f := range r.Header {
		if _, err := fmt.Fprintf(w, "%-14s %s\n", f.Name, f.Value); err != nil {
			return err
		}
	}
	const line = "%-22s %-5s %-16s %10s %10s %7s\n"
	if _, err := fmt.Fprintf(w, "\n"+line, "measure", "unit", "APIServices", "reference", "annex", "ratio"); err != nil {
		return err
	}
	for _, m := range Measures() {
		for _, p := range r.Points {
			reference, ok := p.Values[m.Name]
			if p.Subject != r.Reference || !ok {
				continue
			}
			ours := r.value(r.Ours, p.APIServices, p.CRDs, m)
			ratio := "-"
			if reference > 0 {
				ratio = fmt.Sprintf("%.2fx", ours/reference)
			}
			if _, err := fmt.Fprintf(w, line, m.Name, m.Unit, p.label(), fmt.Sprintf("%.2f", reference), fmt.Sprintf("%.2f", ours), ratio); err != nil {
				return err
			}
		}
	}
	if _, err := fmt.Fprintf(w, "\nGrowth from the first to the last number of APIServices:\n"); err != nil {
		return err
	}
	for _, g := range r.Growth {
		if _, err := fmt.Fprintf(w, "%-22s %-10s %s\n", g.Measure.Name, g.Subject, g); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintln(w, "\nOne run: only ratios count, and a busy machine shows in every time that is not cpu. Linear: an APIService of\nthe second half of the range adds at most 1.5 times what one of the first half does, or the last value lies\nat most 15 % above the line through the first half.")
	return err
}

// Markdown writes the report for a document: a line of each measure and server.
func (r Report) Markdown(w io.Writer) error {
	if err := report.Facts(w, r.Header); err != nil {
		return err
	}
	table := [][]string{{"APIServices", ""}}
	var columns []Point
	for _, p := range r.Points {
		if p.Subject == r.Reference {
			columns = append(columns, p)
			table[0] = append(table[0], p.label())
		}
	}
	table[0] = append(table[0], "growth")
	growth := map[string]string{}
	for _, g := range r.Growth {
		growth[g.Subject+g.Measure.Name] = g.verdict()
	}
	for _, m := range Measures() {
		for _, s := range []struct{ subject, title string }{{r.Reference, "reference"}, {r.Ours, "Annex"}} {
			line := []string{m.Name + ", " + m.Unit, s.title}
			for _, c := range columns {
				cell := ""
				if v, ok := r.measured(s.subject, c.APIServices, c.CRDs, m); ok {
					cell = fmt.Sprintf("%.1f", v)
				}
				line = append(line, cell)
			}
			table = append(table, append(line, growth[s.subject+m.Name]))
		}
	}
	return evidence.Table(w, table)
}

func (r Report) value(subject string, apiServices, crds int, m Measure) float64 {
	v, _ := r.measured(subject, apiServices, crds, m)
	return v
}

func (r Report) measured(subject string, apiServices, crds int, m Measure) (value float64, ok bool) {
	for _, p := range r.Points {
		if p.Subject == subject && p.APIServices == apiServices && p.CRDs == crds {
			value, ok = p.Values[m.Name]
			return value, ok
		}
	}
	return 0, false
}

func (p Point) label() string {
	label := strconv.Itoa(p.APIServices)
	if p.CRDs > 0 {
		label += fmt.Sprintf(" + %d CRDs", p.CRDs)
	}
	return label
}

// String says it in one line.
func (p Point) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-9s %s APIServices:", p.Subject, p.label())
	for _, m := range Measures() {
		if v, ok := p.Values[m.Name]; ok {
			fmt.Fprintf(&b, " %s %.4g %s;", m.Name, v, m.Unit)
		}
	}
	return strings.TrimSuffix(b.String(), ";")
}

// JSON writes the report with every point.
func (r Report) JSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// SVG draws a panel of each measure that has a curve.
func (r Report) SVG(w io.Writer) error {
	d := plot.Drawing{Title: "Growth with the number of APIServices", X: "APIServices"}
	for _, m := range Measures() {
		panel := plot.Panel{Title: m.Name, Unit: m.Unit}
		for _, subject := range []string{r.Reference, r.Ours} {
			series := plot.Series{Name: subject}
			for _, p := range r.Points {
				value, ok := p.Values[m.Name]
				switch {
				case !ok || p.Subject != subject:
				case p.CRDs == 0:
					series.Points = append(series.Points, plot.Point{X: float64(p.APIServices), Y: value})
				default:
					series.Extra = &value
					d.Extra = fmt.Sprintf("+%d CRDs", p.CRDs)
				}
			}
			panel.Series = append(panel.Series, series)
		}
		if len(panel.Series[0].Points) > 1 {
			d.Panels = append(d.Panels, panel)
		}
	}
	return d.SVG(w)
}
