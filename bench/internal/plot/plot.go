// Package plot draws curves as SVG, in colours that can be read on light and on dark ground.
package plot

import (
	"fmt"
	"html"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Drawing is a set of panels with the same x axis. All values must be finite and not negative.
type Drawing struct {
	Title, X string
	Panels   []Panel
	Extra    string // what the points are called that stand right of the axis' end
}

// Panel holds curves of the same unit. The first two are told apart by colour and shape.
type Panel struct {
	Title, Unit string
	Series      []Series
}

// Series is one curve, ascending in X.
type Series struct {
	Name   string
	Points []Point
	Extra  *float64 // a value that is not on the x axis; nil for none
}

// Point is one value.
type Point struct{ X, Y float64 }

// Sizes in pixels.
const (
	columns     = 2
	panelWidth  = 430
	panelHeight = 240
	head        = 60 // above the panels: title and legend
	left, right = 56, 24
	top, bottom = 34, 42
	ticks       = 4
	extraShare  = 0.14 // of the axis' length, beyond its end
)

// grey is legible on white and on near black alike; so are the colours.
const grey = "#768390"

var looks = []struct{ colour, dashes string }{{"#d4702a", "5 4"}, {"#3b82e0", "none"}}

// SVG writes the drawing.
func (d Drawing) SVG(w io.Writer) error {
	rows := (len(d.Panels) + columns - 1) / columns
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="system-ui, sans-serif" font-size="12" fill="%s" role="img">`+"\n",
		columns*panelWidth, head+rows*panelHeight, grey)
	fmt.Fprintf(&b, "<title>%s</title>\n", html.EscapeString(d.Title))
	text(&b, left, 24, "start", 16, d.Title)
	if len(d.Panels) > 0 {
		for i, s := range d.Panels[0].Series {
			look := looks[i%len(looks)]
			x := float64(left + i*120)
			fmt.Fprintf(&b, `<path d="M%.1f 44h28" stroke="%s" stroke-width="2" stroke-dasharray="%s"/>`+"\n", x, look.colour, look.dashes)
			mark(&b, i, x+14, 44, false)
			text(&b, x+36, 48, "start", 12, s.Name)
		}
	}
	for i, p := range d.Panels {
		fmt.Fprintf(&b, `<g transform="translate(%d %d)">`+"\n", i%columns*panelWidth, head+i/columns*panelHeight)
		d.panel(&b, p)
		b.WriteString("</g>\n")
	}
	b.WriteString("</svg>\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func (d Drawing) panel(b *strings.Builder, p Panel) {
	var xs []float64
	var highestX, highestY float64
	extra := false
	for _, s := range p.Series {
		for _, v := range s.Points {
			highestX, highestY = max(highestX, v.X), max(highestY, v.Y)
			if !slices.Contains(xs, v.X) {
				xs = append(xs, v.X)
			}
		}
		if s.Extra != nil {
			extra, highestY = true, max(highestY, *s.Extra)
		}
	}
	step := niceStep(highestY / ticks)
	highestY = max(math.Ceil(highestY/step)*step, step)
	highestX = max(highestX, 1)
	length := float64(panelWidth - left - right)
	if extra {
		length *= 1 - extraShare
	}
	x := func(v float64) float64 { return left + v/highestX*length }
	y := func(v float64) float64 { return panelHeight - bottom - v/highestY*(panelHeight-top-bottom) }

	text(b, left, 20, "start", 13, p.Title+", "+p.Unit)
	for v := 0.0; v <= highestY+step/2; v += step {
		fmt.Fprintf(b, `<path d="M%d %.1fH%d" stroke="%s" stroke-opacity="0.3"/>`+"\n", left, y(v), panelWidth-right, grey)
		text(b, left-6, y(v)+4, "end", 11, strconv.FormatFloat(v, 'g', 6, 64))
	}
	fmt.Fprintf(b, `<path d="M%d %dV%dH%d" stroke="%s" fill="none"/>`+"\n", left, top, panelHeight-bottom, panelWidth-right, grey)
	for _, v := range xs {
		text(b, x(v), panelHeight-bottom+16, "middle", 11, strconv.FormatFloat(v, 'g', 6, 64))
	}
	text(b, left+length/2, panelHeight-bottom+32, "middle", 11, d.X)
	extraX := float64(panelWidth - right - 12)
	if extra {
		text(b, panelWidth-right, panelHeight-bottom+32, "end", 11, d.Extra)
	}
	for i, s := range p.Series {
		look := looks[i%len(looks)]
		var path []string
		for _, v := range s.Points {
			path = append(path, fmt.Sprintf("%.1f %.1f", x(v.X), y(v.Y)))
		}
		if len(path) > 0 {
			fmt.Fprintf(b, `<path d="M%s" fill="none" stroke="%s" stroke-width="2" stroke-dasharray="%s"/>`+"\n", strings.Join(path, "L"), look.colour, look.dashes)
		}
		for _, v := range s.Points {
			mark(b, i, x(v.X), y(v.Y), false)
		}
		if s.Extra != nil {
			mark(b, i, extraX, y(*s.Extra), true)
		}
	}
}

// mark is a circle or a square, hollow beside the axis.
func mark(b *strings.Builder, series int, x, y float64, hollow bool) {
	colour := looks[series%len(looks)].colour
	fill := colour
	if hollow {
		fill = "none"
	}
	if series%len(looks) == 0 {
		fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="4" fill="%s" stroke="%s" stroke-width="2"/>`+"\n", x, y, fill, colour)
		return
	}
	fmt.Fprintf(b, `<rect x="%.1f" y="%.1f" width="7" height="7" fill="%s" stroke="%s" stroke-width="2"/>`+"\n", x-3.5, y-3.5, fill, colour)
}

func text(b *strings.Builder, x, y float64, anchor string, size int, s string) {
	fmt.Fprintf(b, `<text x="%.1f" y="%.1f" text-anchor="%s" font-size="%d">%s</text>`+"\n", x, y, anchor, size, html.EscapeString(s))
}

// niceStep is the least of 1, 2 and 5 times a power of ten that is not below v; 1 of nothing.
func niceStep(v float64) float64 {
	if v <= 0 {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, digit := range []float64{1, 2, 5} {
		if digit*power >= v {
			return digit * power
		}
	}
	return 10 * power
}
