package extensiontest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// patience bounds waits for what is expected.
const patience = time.Minute

// programOf is a program that a shell runs.
func programOf(t *testing.T, script string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "annex")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAHostThatIsMissingIsExplained(t *testing.T) {
	_, err := launchAnnex(filepath.Join(t.TempDir(), "annex"))
	for _, want := range []string{"no such file", HostBinary, HostKubeconfig} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not have %q", err, want)
		}
	}
}

// What a host says when it cannot start is in the error.
func TestAHostThatDoesNotStartIsExplained(t *testing.T) {
	for script, want := range map[string]string{
		"echo the port is taken >&2; exit 3": "the port is taken",
		"echo nothing happens >&2; exit 0":   "nothing happens",
	} {
		a, err := launchAnnex(programOf(t, script))
		if err != nil {
			t.Fatal(err)
		}
		if path, err := a.ready(patience); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %q, %v", script, path, err)
		}
		if err := a.stop(patience); err == nil || !strings.Contains(err.Error(), "by itself") {
			t.Errorf("%s: stop gives %v", script, err)
		}
	}
}

// A host is asked to end, and ended by force if it does not.
func TestAHostIsEnded(t *testing.T) {
	for name, c := range map[string]struct {
		trap  string
		grace time.Duration
		want  string
	}{
		"one that obeys": {"trap 'exit 0' INT", patience, ""},
		"one that fails": {"trap 'exit 3' INT", patience, "exit status 3"},
		"a stubborn one": {"trap '' INT", time.Millisecond, "did not end"},
	} {
		a, err := launchAnnex(programOf(t, c.trap+"\necho \"$*\"; echo /more\nwhile :; do read -r _ </dev/null; done"))
		if err != nil {
			t.Fatal(err)
		}
		if path, err := a.ready(patience); err != nil || path != "up --ephemeral --quiet --verbose" {
			t.Errorf("%s: its first line is %q, %v", name, path, err)
		}
		if err := a.stop(c.grace); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// A host that is silent is not waited for longer than it was said.
func TestASilentHostIsNotWaitedFor(t *testing.T) {
	a, err := launchAnnex(programOf(t, "trap 'exit 0' INT\nwhile :; do read -r _ </dev/null; done"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.ready(time.Millisecond); err == nil || !strings.Contains(err.Error(), "not ready after 1ms") {
		t.Error(err)
	}
	_ = a.stop(time.Millisecond) // its trap may not be set yet
}

// Of what a host prints no more is kept than is needed.
func TestWhatAHostPrintsIsBounded(t *testing.T) {
	line := make(chan string, 1)
	first := &firstLine{to: line}
	var log lastOutput
	for range 100 {
		for _, w := range []interface{ Write([]byte) (int, error) }{first, &log} {
			if n, err := w.Write([]byte(strings.Repeat("x", 10_000))); n != 10_000 || err != nil {
				t.Fatal(n, err)
			}
		}
	}
	if got := <-line; len(got) != maxPath || first.text != nil {
		t.Errorf("a line of %d bytes, and %d are kept", len(got), len(first.text))
	}
	if len(log.String()) != maxLog {
		t.Errorf("%d bytes are kept", len(log.String()))
	}
}
