package terminal

import (
	"bytes"
	"errors"
	"os"
	"testing"
	"time"
)

func TestProgress(t *testing.T) {
	for name, c := range map[string]struct {
		quiet, terminal, colour bool
		want                    string
	}{
		"piped":      {want: "etcd: done in 0.3s\nserver: failed in 0.3s\nready\n"},
		"terminal":   {terminal: true, want: "✓ etcd  0.3s\n✗ server  0.3s\nready\n"},
		"coloured":   {terminal: true, colour: true, want: "\x1b[32m✓\x1b[0m etcd  \x1b[2m0.3s\x1b[0m\n\x1b[31m✗\x1b[0m server  \x1b[2m0.3s\x1b[0m\nready\n"},
		"quiet":      {quiet: true, want: "server: failed in 0.3s\n"},
		"quiet term": {quiet: true, terminal: true, want: "✗ server  0.3s\n"},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			p := newProgress(&b, c.quiet, c.terminal, c.colour)
			now := time.Unix(0, 0)
			p.Now = func() time.Time { now = now.Add(300 * time.Millisecond); return now }
			if err := p.Step("etcd", func() error { return nil }); err != nil {
				t.Error(err)
			}
			broken := errors.New("broken")
			if err := p.Step("server", func() error { return broken }); !errors.Is(err, broken) {
				t.Errorf("Step returned %v", err)
			}
			p.Say("%s", "ready")
			if b.String() != c.want {
				t.Errorf("got %q, want %q", b.String(), c.want)
			}
		})
	}
}

func TestWhatIsNoTerminal(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if IsTerminal(w) || HasColour(w) || IsTerminal(&bytes.Buffer{}) {
		t.Error("a pipe or buffer was taken for a terminal")
	}
}
