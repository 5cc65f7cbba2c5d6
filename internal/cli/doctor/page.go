package doctor

import (
	"bufio"
	"strings"

	"github.com/annex-api/annex/internal/cli/terminal"
	"github.com/annex-api/annex/internal/printable"
)

const (
	// minWidth is the least that text is wrapped to, and maxWidth the most: longer lines read badly.
	minWidth, maxWidth = 40, 100
)

// page writes text for people: wrapped and coloured on a terminal, plain and in whole lines
// elsewhere. What wrap writes is made printable.
type page struct {
	w        *bufio.Writer
	terminal bool
	colour   bool
	width    int // 0 for lines of any length
}

func (o *Options) page() *page {
	p := &page{w: bufio.NewWriter(o.IO.Out), terminal: terminal.IsTerminal(o.IO.Out), colour: terminal.HasColour(o.IO.Out)}
	if p.terminal {
		columns, _ := terminal.Size(o.IO.Out)
		p.width = widthFor(columns)
	}
	return p
}

// widthFor is the width that text is wrapped to on a terminal with so many columns.
func widthFor(columns int) int {
	if columns <= 0 {
		columns = 80
	}
	return min(max(columns, minWidth), maxWidth)
}

// flush ends the page. A write that failed before is told here.
func (p *page) flush() error { return p.w.Flush() }

// line writes a line as it is: text of our own, or text that was made printable. It may hold our
// colours.
func (p *page) line(text string) { _, _ = p.w.WriteString(strings.TrimRight(text, " ") + "\n") } // flush tells

// wrap writes text in lines of the page's width: the first begins with one prefix, the others with
// another of the same width. Prefixes may hold colours.
func (p *page) wrap(first, other, text string) {
	prefix, room := first, p.width-columnsOf(other)
	var b strings.Builder
	used := 0
	for _, word := range strings.Fields(printable.Line(text, maxText)) {
		n := terminal.Width(word)
		if p.width > 0 && used > 0 && used+1+n > room {
			p.line(prefix + b.String())
			b.Reset()
			prefix, used = other, 0
		}
		if used > 0 {
			b.WriteByte(' ')
			used++
		}
		// A word that no line has room for is broken.
		for p.width > 0 && used == 0 && n > room {
			part := cutWord(word, room)
			p.line(prefix + part)
			prefix, word = other, word[len(part):]
			n = terminal.Width(word)
		}
		b.WriteString(word)
		used += n
	}
	if used > 0 || prefix == first {
		p.line(prefix + b.String())
	}
}

// cutWord is as much of a word as there is room for, one character at least.
func cutWord(word string, room int) string {
	used := 0
	for i, r := range word {
		used += terminal.Width(string(r))
		if used > room && i > 0 {
			return word[:i]
		}
	}
	return word
}

// columnsOf is how wide a prefix is.
func columnsOf(prefix string) int {
	n, escape := 0, false
	for _, r := range prefix {
		switch {
		case r == '\x1b':
			escape = true
		case escape:
			escape = r != 'm'
		default:
			n += terminal.Width(string(r))
		}
	}
	return n
}

// section is a heading with a text below it.
func (p *page) section(title, text string) {
	p.line("")
	p.line(title)
	p.wrap("  ", "  ", text)
}

func (p *page) painted(colour, text string) string {
	if !p.colour {
		return text
	}
	return colour + text + "\x1b[0m"
}

func (p *page) bold(text string) string { return p.painted("\x1b[1m", text) }
func (p *page) dim(text string) string  { return p.painted("\x1b[2m", text) }

// yellow is for what will be wrong.
const yellow = "\x1b[33m"

// mark is a sign on a terminal and a word elsewhere.
type mark struct{ sign, word, colour string }

var (
	markPassed  = mark{"√", "ok", terminal.Green}
	markFailed  = mark{"×", "FAIL", terminal.Red}
	markWarned  = mark{"‼", "WARN", yellow}
	markNoted   = mark{"·", "note", terminal.Cyan}
	markUnseen  = mark{"?", "?", yellow}
	markSkipped = mark{"-", "-", "\x1b[2m"}
)

// prefixes are how a line with a mark begins, and those that follow it.
func (p *page) prefixes(indent string, m mark) (first, other string) {
	if p.terminal {
		return indent + p.painted(m.colour, m.sign) + " ", indent + "  "
	}
	const wide = 5
	return indent + m.word + strings.Repeat(" ", wide-len(m.word)), indent + strings.Repeat(" ", wide)
}
