package terminal

import (
	"bytes"
	"io"
	"testing"
)

func TestLinesOfSeveralSources(t *testing.T) {
	for name, c := range map[string]struct {
		terminal, colour bool
		want             string
	}{
		"piped":    {want: "one\ntwo\nfour\n"},
		"terminal": {terminal: true, want: "server 1 │ one\nhost     │ two\nserver 1 │ four\n"},
		"coloured": {terminal: true, colour: true, want: "\x1b[36mserver 1 │ \x1b[0mone\n\x1b[35mhost     │ \x1b[0mtwo\n\x1b[36mserver 1 │ \x1b[0mfour\n"},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			l := &Lines{terminal: c.terminal, colour: c.colour, width: 8, w: &b}
			server := l.From("server 1", Cyan, nil)
			host := l.From("host", Magenta, func(line []byte) bool { return !bytes.HasPrefix(line, []byte("I")) })
			write := func(w io.Writer, text string) {
				t.Helper()
				if _, err := io.WriteString(w, text); err != nil {
					t.Error(err)
				}
			}
			write(server, "on")
			if b.Len() > 0 {
				t.Errorf("half a line is written: %q", &b)
			}
			write(server, "e\nfo")
			write(host, "two\r\nIthree\n")
			write(server, "ur")
			for _, s := range []io.Closer{server, host} {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}
			if b.String() != c.want {
				t.Errorf("got %q, want %q", b.String(), c.want)
			}
		})
	}
}

func TestALineWithoutEndIsBroken(t *testing.T) {
	var b bytes.Buffer
	s := (&Lines{w: &b}).From("x", "", nil)
	if _, err := s.Write(bytes.Repeat([]byte("a"), maxLine+1)); err != nil {
		t.Fatal(err)
	}
	if b.Len() != maxLine+1 || !bytes.HasSuffix(b.Bytes(), []byte("a\n")) {
		t.Errorf("%d bytes are written", b.Len())
	}
}
