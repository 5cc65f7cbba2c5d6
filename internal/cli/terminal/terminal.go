// Package terminal gives commands their streams, colour and progress lines.
package terminal

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"
)

// IO are a command's streams.
type IO struct {
	Out io.Writer // what was asked for
	Err io.Writer // progress and errors
}

// System returns the process's streams.
func System() IO { return IO{Out: os.Stdout, Err: os.Stderr} }

// IsTerminal reports whether w is a terminal.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// HasColour reports whether to colour what is written to w: a terminal, unless the environment
// variable NO_COLOR is set to something or TERM is dumb.
func HasColour(w io.Writer) bool {
	return IsTerminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// Size is how many columns and rows the terminal behind w has; zero where that cannot be known.
func Size(w io.Writer) (columns, rows int) {
	f, ok := w.(*os.File)
	if !ok {
		return 0, 0
	}
	columns, rows, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0, 0
	}
	return columns, rows
}

// Progress writes one line for each finished step. It is safe for concurrent use.
type Progress struct {
	// Now is the clock.
	Now func() time.Time

	quiet    bool
	terminal bool
	colour   bool

	mu sync.Mutex // keeps lines whole
	w  io.Writer
}

// NewProgress writes to w, or nothing but failures when quiet.
func NewProgress(w io.Writer, quiet bool) *Progress {
	return newProgress(w, quiet, IsTerminal(w), HasColour(w))
}

func newProgress(w io.Writer, quiet, terminal, colour bool) *Progress {
	return &Progress{Now: time.Now, w: w, quiet: quiet, terminal: terminal, colour: colour}
}

// Step runs f and writes its name, outcome and time.
func (p *Progress) Step(name string, f func() error) error {
	begin := p.Now()
	err := f()
	if err != nil {
		p.Failed(name, p.Now().Sub(begin))
		return err
	}
	p.Done(name, p.Now().Sub(begin))
	return nil
}

// Done writes that a step that took d is done.
func (p *Progress) Done(name string, d time.Duration) {
	if p.quiet {
		return
	}
	p.line(name, "done", "✓", "\x1b[32m", d)
}

// Failed writes that a step failed after d.
func (p *Progress) Failed(name string, d time.Duration) {
	p.line(name, "failed", "✗", "\x1b[31m", d)
}

// Say writes a line of its own.
func (p *Progress) Say(format string, args ...any) {
	if p.quiet {
		return
	}
	p.write(fmt.Sprintf(format, args...) + "\n")
}

func (p *Progress) line(name, outcome, mark, colour string, d time.Duration) {
	took := fmt.Sprintf("%.1fs", d.Seconds())
	switch {
	case !p.terminal:
		p.write(fmt.Sprintf("%s: %s in %s\n", name, outcome, took))
	case p.colour:
		p.write(fmt.Sprintf("%s%s\x1b[0m %s  \x1b[2m%s\x1b[0m\n", colour, mark, name, took))
	default:
		p.write(fmt.Sprintf("%s %s  %s\n", mark, name, took))
	}
}

func (p *Progress) write(s string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, _ = io.WriteString(p.w, s) // a lost line is no reason to stop a server
}
