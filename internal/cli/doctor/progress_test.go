package doctor

import (
	"bytes"
	"testing"
	"time"
)

func TestProgressIsALineOnATerminal(t *testing.T) {
	var b bytes.Buffer
	now := time.Unix(0, 0)
	p := newProgress(&b)
	p.now = func() time.Time { return now }
	p.begin()
	for i := range 3 {
		now = now.Add(progressAfter)
		p.update(i, 3)
	}
	if b.Len() > 0 {
		t.Errorf("in a pipe: %q", b.String())
	}
	p.terminal = true
	p.begin()
	p.update(1, 2000)
	now = now.Add(progressAfter)
	p.update(120, 2000)
	p.update(121, 2000) // too soon
	p.say("Creating \x1b[2J")
	p.end()
	const line = "looked at 120 of 2000"
	if got, want := b.String(), line+"\r                     \rCreating \ufffd[2J\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
