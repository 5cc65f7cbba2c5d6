package terminal

import (
	"bytes"
	"fmt"
	"io"
	"sync"
)

// maxLine is where a line that does not end is broken.
const maxLine = 16 << 10

// Lines puts what several sources write into one stream, whole lines each. On a terminal each line
// begins with the name of its source; elsewhere lines are as they are. It is safe for concurrent use.
type Lines struct {
	terminal, colour bool
	width            int

	mu sync.Mutex // keeps lines whole
	w  io.Writer
}

// The colours of sources.
const (
	Cyan    = "\x1b[36m"
	Magenta = "\x1b[35m"
	Green   = "\x1b[32m"
	Red     = "\x1b[31m"
)

// NewLines writes to w, with names of up to width characters before the lines.
func NewLines(w io.Writer, width int) *Lines {
	return &Lines{terminal: IsTerminal(w), colour: HasColour(w), width: width, w: w}
}

// From is the stream of one source. Closing it writes what is left of a line without an end. Lines
// that keep refuses are dropped; nil keeps all.
func (l *Lines) From(name, colour string, keep func(line []byte) bool) io.WriteCloser {
	s := &source{lines: l, keep: keep}
	if l.terminal {
		s.prefix = fmt.Sprintf("%-*s │ ", l.width, name)
	}
	if l.colour {
		s.prefix = colour + s.prefix + "\x1b[0m"
	}
	return s
}

func (l *Lines) write(b []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, _ = l.w.Write(b) // a lost line is no reason to stop a server
}

// source is written by one goroutine at a time.
type source struct {
	lines  *Lines
	prefix string
	keep   func([]byte) bool

	mu   sync.Mutex
	rest []byte
}

func (s *source) Write(p []byte) (int, error) {
	if out := s.take(p); len(out) > 0 {
		s.lines.write(out)
	}
	return len(p), nil
}

func (s *source) Close() error {
	if out := s.take([]byte("\n")); len(out) > len(s.prefix)+1 {
		s.lines.write(out)
	}
	return nil
}

// take gives the whole lines there are with p, and keeps the rest.
func (s *source) take(p []byte) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rest = append(s.rest, p...)
	var out []byte
	for {
		end := bytes.IndexByte(s.rest, '\n')
		var line []byte
		switch {
		case end >= 0:
			line, s.rest = s.rest[:end], s.rest[end+1:]
		case len(s.rest) >= maxLine:
			line, s.rest = s.rest[:maxLine], s.rest[maxLine:]
		default:
			s.rest = bytes.Clone(s.rest)
			return out
		}
		line = bytes.TrimSuffix(line, []byte("\r"))
		if s.keep == nil || s.keep(line) {
			out = append(append(append(out, s.prefix...), line...), '\n')
		}
	}
}
