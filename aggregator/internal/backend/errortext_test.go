package backend

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestErrorTextIsBounded(t *testing.T) {
	if ErrorText(nil) != "" {
		t.Error("no error says something")
	}
	for text, want := range map[string]string{
		"refused":                                 "refused",
		strings.Repeat("x", maxErrorText):         strings.Repeat("x", maxErrorText),
		strings.Repeat("x", maxErrorText+1):       strings.Repeat("x", maxErrorText-3) + "…",
		"x" + strings.Repeat("é", maxErrorText):   "x" + strings.Repeat("é", maxErrorText/2-2) + "…",
		strings.Repeat("\xa0", 2*maxErrorText):    "…",
		"not \xff UTF-8":                          "not \uFFFD UTF-8",
		strings.Repeat("x", 4<<20) + "never read": strings.Repeat("x", maxErrorText-3) + "…",
	} {
		got := ErrorText(errors.New(text))
		if got != want || len(got) > maxErrorText || !utf8.ValidString(got) {
			t.Errorf("%.20q… of %d bytes is %d bytes: %q", text, len(text), len(got), got)
		}
	}
}
