package status

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/annex-api/annex/internal/cli/terminal"
)

// display is what the output is written to.
type display struct {
	terminal, colour bool
	// fixed is a terminal that cannot move its cursor.
	fixed bool
	// size is asked anew for each picture: terminals are resized. It is zero where it is not known.
	size func() (columns, rows int)
}

func displayOf(w io.Writer) display {
	return display{
		terminal: terminal.IsTerminal(w), colour: terminal.HasColour(w), fixed: os.Getenv("TERM") == "dumb",
		size: func() (int, int) { return terminal.Size(w) },
	}
}

// picture is what a terminal shows, line by line. Only lines that differ are written.
type picture struct {
	w             io.Writer
	columns, rows int
	lines         []string
}

const (
	// Programs that draw use the other screen, so that what was on the first comes back at the end.
	otherScreen, firstScreen = "\x1b[?1049h", "\x1b[?1049l"
	clearAll, clearRest      = "\x1b[2J", "\x1b[K"
)

// draw shows lines on a terminal of this size, which they fit.
func (p *picture) draw(columns, rows int, lines []string) error {
	var b strings.Builder
	if columns != p.columns || rows != p.rows {
		// What a terminal does with lines when it is resized differs.
		p.columns, p.rows, p.lines = columns, rows, nil
		b.WriteString(clearAll)
	}
	for i := range max(len(lines), len(p.lines)) {
		var line string
		if i < len(lines) {
			line = lines[i]
		}
		if i < len(p.lines) && p.lines[i] == line || i >= len(p.lines) && line == "" {
			continue
		}
		fmt.Fprintf(&b, "\x1b[%d;1H%s%s", i+1, line, clearRest)
	}
	p.lines = lines
	if b.Len() == 0 {
		return nil
	}
	fmt.Fprintf(&b, "\x1b[%d;1H", len(lines))
	_, err := io.WriteString(p.w, b.String())
	return err
}
