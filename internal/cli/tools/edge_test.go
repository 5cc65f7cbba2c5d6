package tools

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/annex-api/annex/internal/cli/program"
	"github.com/annex-api/annex/internal/cli/terminal"
)

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestWhoCouldNotAskEndsWithTwo(t *testing.T) {
	for _, words := range []string{
		"status --bogus", "doctor --bogus", "console --bogus", "console --port x", "console --port 70000", "console v1.a",
		"status --output xml", "status --kubeconfig /dev/zero", "doctor --explain all", "doctor --explain ANX201 -o yaml",
	} {
		var errs bytes.Buffer
		streams := terminal.IO{Out: full{}, Err: &errs}
		code := program.Run(New("kubectl-annex", streams), strings.Fields(words), streams)
		if code != 2 || !strings.HasPrefix(errs.String(), "kubectl annex: ") {
			t.Errorf("%s: code %d, %s", words, code, &errs)
		}
	}
}

func TestErrorsArePrintable(t *testing.T) {
	for _, words := range [][]string{
		{"status", "--\x1b[31mred\u202e\u009b"},
		{"\x1b[31mred\u202e"},
		{"doctor", "-f", "/none/\x1b[31mred\u202e\u009b"},
		{"console", "--port", "\x1b[31m\u202e"},
	} {
		var errs bytes.Buffer
		streams := terminal.IO{Out: full{}, Err: &errs}
		if code := program.Run(New("annex", streams), words, streams); code == 0 {
			t.Errorf("%q ends with 0", words)
		}
		text := strings.TrimSuffix(errs.String(), "\n")
		if text == "" || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%q: %q is not one printable line", words, text)
		}
	}
}

func TestWhatDoesNotEndIsLeftBehind(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	hang := make(chan struct{})
	defer close(hang)
	err := within(ctx, time.Millisecond, func() error {
		cancel()
		<-hang
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), "stopped") {
		t.Errorf("it ended with %v", err)
	}
	if err := within(ctx, time.Minute, func() error { return errors.New("in order") }); err == nil || err.Error() != "in order" {
		t.Errorf("it ended with %v", err)
	}
}
