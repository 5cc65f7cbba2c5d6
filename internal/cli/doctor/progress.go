package doctor

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/annex-api/annex/internal/cli/terminal"
	"github.com/annex-api/annex/internal/printable"
)

const (
	// progressAfter is how long a look takes before it is said how far it is.
	progressAfter = time.Second
	// progressEvery is how often that is said.
	progressEvery = 100 * time.Millisecond
)

// progress says on a terminal how far a look is, in a line that is gone afterwards. Elsewhere it
// writes only what is said. It is safe for concurrent use.
type progress struct {
	terminal bool
	now      func() time.Time

	mu     sync.Mutex // keeps lines whole
	w      io.Writer
	began  time.Time
	last   time.Time
	length int // of the line that stands there
}

func newProgress(w io.Writer) *progress {
	return &progress{w: w, terminal: terminal.IsTerminal(w), now: time.Now}
}

// begin begins a look.
func (p *progress) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.began, p.last = p.now(), time.Time{}
}

// update says how many have been looked at.
func (p *progress) update(looked, all int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	if !p.terminal || now.Sub(p.began) < progressAfter || now.Sub(p.last) < progressEvery {
		return
	}
	p.clear()
	p.last = now
	line := fmt.Sprintf("looked at %d of %d", looked, all)
	p.length = len(line)
	_, _ = io.WriteString(p.w, line) // a lost line is no reason to stop
}

// say writes a line of its own.
func (p *progress) say(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	fmt.Fprintln(p.w, printable.Line(text, maxText))
}

// end takes the line away.
func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
}

// clear overwrites the line with spaces, which every terminal can.
func (p *progress) clear() {
	if p.length > 0 {
		fmt.Fprintf(p.w, "\r%*s\r", p.length, "")
		p.length = 0
	}
}
