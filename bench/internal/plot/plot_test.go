package plot

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"
)

func draw(t *testing.T, d Drawing) string {
	t.Helper()
	var b bytes.Buffer
	if err := d.SVG(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func series(name string, ys ...float64) Series {
	s := Series{Name: name}
	for i, y := range ys {
		s.Points = append(s.Points, Point{X: float64(i * 100), Y: y})
	}
	return s
}

// inside parses a drawing and checks that every mark lies in its panel.
func inside(t *testing.T, svg string) (marks int) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(svg))
	panels := 0
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return marks
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, svg)
		}
		e, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		if e.Name.Local == "g" {
			panels++
		}
		if panels == 0 || (e.Name.Local != "circle" && e.Name.Local != "rect") {
			continue
		}
		marks++
		for _, a := range e.Attr {
			limit := map[string]float64{"cx": panelWidth - right, "x": panelWidth - right, "cy": panelHeight - bottom, "y": panelHeight - bottom}[a.Name.Local]
			if limit == 0 {
				continue
			}
			if v, err := strconv.ParseFloat(a.Value, 64); err != nil || v < top-4 || v > limit {
				t.Errorf("%s is at %s=%s, %v", e.Name.Local, a.Name.Local, a.Value, err)
			}
		}
	}
}

func TestEveryPointIsDrawnInsideItsPanel(t *testing.T) {
	extra := 9000.0
	first := series("reference", 1, 20, 300)
	first.Extra = &extra
	svg := draw(t, Drawing{
		Title: "a < b & c", X: "n", Extra: "+1",
		Panels: []Panel{
			{Title: "one", Unit: "ms", Series: []Series{first, series("annex", 3, 4, 5)}},
			{Title: "two", Unit: "s", Series: []Series{series("reference", 0, 0, 0), series("annex", 0.001, 0.0002, 0)}},
			{Title: "three", Unit: "s", Series: []Series{series("reference", 7), series("annex")}},
		},
	})
	if got := inside(t, svg); got != 14 {
		t.Errorf("%d marks, want 14", got)
	}
	for _, want := range []string{"a &lt; b &amp; c", "one, ms", "reference", "annex", "+1", looks[0].colour, looks[1].colour} {
		if !strings.Contains(svg, want) {
			t.Errorf("no %q", want)
		}
	}
}

func TestADrawingOfNothingIsValid(t *testing.T) {
	if got := inside(t, draw(t, Drawing{Title: "none"})); got != 0 {
		t.Errorf("%d marks", got)
	}
}

func TestNiceStep(t *testing.T) {
	for v, want := range map[float64]float64{0: 1, 1: 1, 1.5: 2, 2.1: 5, 7: 10, 0.03: 0.05, 130: 200} {
		if got := niceStep(v); got < want*0.999 || got > want*1.001 {
			t.Errorf("niceStep(%v) = %v, want %v", v, got, want)
		}
	}
}
