package status

import (
	"io"
	"slices"
	"strings"
	"time"

	"github.com/annex-api/annex/apis/aggregation/v1alpha1"
	"github.com/annex-api/annex/internal/cli/terminal"
)

// layout is which columns a table has, and how wide they are.
type layout struct {
	columns []column
	widths  []int
	gap     string
	limit   int // of a line; zero means none
}

const (
	wideGap, narrowGap = "   ", "  "
	reset              = "\x1b[0m"
)

// look is how a state is shown on a terminal.
func look(state v1alpha1.State) (symbol, colour string) {
	switch state {
	case v1alpha1.Healthy:
		return "✓ ", "\x1b[32m"
	case v1alpha1.Degraded:
		return "! ", "\x1b[33m"
	case v1alpha1.Unavailable:
		return "✗ ", "\x1b[31m"
	case gone:
		return "- ", "\x1b[2m"
	}
	return "? ", "\x1b[35m"
}

// row is a line of a table, before it is laid out.
type row struct {
	cells []string
	// colour is that of the state, or empty.
	colour string
}

// fit lays out a table within limit columns of a terminal; zero means that there is no limit. Columns are
// cut to what they need at least, then left out one after another, and at last names are cut further.
func fit(columns []column, rows []row, limit int) layout {
	l := layout{columns: columns, gap: wideGap, limit: limit}
	natural := make([]int, len(columns))
	for i, c := range columns {
		natural[i] = terminal.Width(c.heading)
		for _, r := range rows {
			natural[i] = max(natural[i], terminal.Width(r.cells[i]))
		}
	}
	l.widths = slices.Clone(natural)
	if limit <= 0 || l.total() <= limit {
		return l
	}
	l.gap = narrowGap
	for !l.shrink(limit) {
		next := -1
		for i, c := range l.columns {
			if c.dropped > 0 && l.widths[i] > 0 && (next < 0 || c.dropped < l.columns[next].dropped) {
				next = i
			}
		}
		if next < 0 {
			over := l.total() - limit
			for i, c := range l.columns {
				if c.least > 0 && l.widths[i] > 0 {
					l.widths[i] = max(l.widths[i]-over, 1)
				}
			}
			return l
		}
		natural[next] = 0
		l.widths = slices.Clone(natural)
	}
	return l
}

// total is the width of a line.
func (l layout) total() int {
	n := -len(l.gap)
	for _, w := range l.widths {
		if w > 0 {
			n += w + len(l.gap)
		}
	}
	return n
}

// shrink cuts the widest columns that may be cut, and says whether that was enough.
func (l layout) shrink(limit int) bool {
	for l.total() > limit {
		widest := -1
		for i, c := range l.columns {
			if c.least > 0 && l.widths[i] > c.least && (widest < 0 || l.widths[i] > l.widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			return false
		}
		l.widths[widest]--
	}
	return true
}

// widen makes room for a row that comes later, so that those after it stand below it.
func (l layout) widen(r row) {
	for i, w := range l.widths {
		if w > 0 { // else the column is left out
			l.widths[i] = max(w, terminal.Width(r.cells[i]))
		}
	}
}

// line writes a row. It never takes more than the limit.
func (l layout) line(r row) string {
	var b strings.Builder
	used, spaces := 0, 0 // spaces are written once a text follows
	for i, c := range l.columns {
		if l.widths[i] == 0 {
			continue
		}
		if i > 0 {
			spaces += len(l.gap)
		}
		text := r.cells[i]
		if l.limit > 0 {
			text = terminal.Cut(text, min(l.widths[i], l.limit-used-spaces))
		}
		if text == "" {
			break // there is no room
		}
		b.WriteString(strings.Repeat(" ", spaces))
		if r.colour != "" && c.heading == stateColumn.heading {
			b.WriteString(r.colour + text + reset)
		} else {
			b.WriteString(text)
		}
		taken := terminal.Width(text)
		used, spaces = used+spaces+taken, max(l.widths[i]-taken, 0)
	}
	return b.String()
}

// printer writes APIServices in the form that the flags ask for.
type printer struct {
	*Options
	columns []column
	now     func() time.Time
}

// selected are the APIServices that the flags ask for, in their order.
func (p *printer) selected(all []v1alpha1.RemoteAPIService) []v1alpha1.RemoteAPIService {
	var some []v1alpha1.RemoteAPIService
	for i := range all {
		if p.wanted(&all[i]) {
			some = append(some, all[i])
		}
	}
	return inOrder(some, p.display.terminal && !p.structured())
}

// print writes a list.
func (p *printer) print(all []v1alpha1.RemoteAPIService) error {
	if p.structured() {
		return p.document(all)
	}
	if len(all) == 0 {
		return nil
	}
	_, heading, lines := p.table(all)
	return p.write(append(heading, lines...))
}

func (p *printer) write(lines []string) error {
	if len(lines) == 0 {
		return nil
	}
	_, err := io.WriteString(p.IO.Out, strings.Join(lines, "\n")+"\n")
	return err
}

// table lays out rows, and gives the lines: the heading's, if there is to be one, and the rows'.
func (p *printer) table(all []v1alpha1.RemoteAPIService) (l layout, heading []string, lines []string) {
	columns, now := p.visible(), p.now()
	rows := make([]row, len(all))
	for i := range all {
		rows[i] = p.row(&all[i], columns, now)
	}
	limit := 0
	if p.display.terminal {
		limit, _ = p.display.size()
	}
	l = fit(columns, rows, limit)
	if !p.NoHeaders {
		heading = []string{l.line(headings(columns))}
	}
	for _, r := range rows {
		lines = append(lines, l.line(r))
	}
	return l, heading, lines
}

// visible are the columns that -o asks for.
func (p *printer) visible() []column {
	if p.Output == "wide" {
		return p.columns
	}
	return slices.DeleteFunc(slices.Clone(p.columns), func(c column) bool { return c.wide })
}

func headings(columns []column) row {
	r := row{cells: make([]string, len(columns))}
	for i, c := range columns {
		r.cells[i] = c.heading
	}
	return r
}

// row has symbols and colours where a person reads.
func (p *printer) row(item *v1alpha1.RemoteAPIService, columns []column, now time.Time) row {
	r := row{cells: cellsOf(item, columns, now)}
	symbol, colour := look(v1alpha1.State(stateOf(item)))
	if p.display.terminal {
		for i, c := range columns {
			if c.heading == stateColumn.heading {
				r.cells[i] = symbol + r.cells[i]
			}
		}
	}
	if p.display.colour {
		r.colour = colour
	}
	return r
}
