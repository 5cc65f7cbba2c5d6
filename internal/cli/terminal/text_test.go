package terminal

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestPrintable(t *testing.T) {
	for text, want := range map[string]string{
		"plain":                           "plain",
		"two\r\n\tlines\n":                "two lines",
		"\x1b[31mred\x1b[0m":              "�[31mred�[0m",
		"\x1b]0;title\x07":                "�]0;title�",
		"C1 \u009b2J \x9b2J":              "C1 �2J �2J",
		"right\u202eto left\u2066":        "right�to left�",
		"zero\u200bwidth\ufeff":           "zero�width�",
		"<script>alert(1)</script>":       "<script>alert(1)</script>",
		"a" + strings.Repeat("\u0301", 9): "a" + strings.Repeat("\u0301", maxMarks),
		"日本\u2028語\u00a0!":                "日本 語 !",
		"":                                "",
		strings.Repeat("long ", 20):       "long long long long long long long l…",
	} {
		if got := Printable(text, 39); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func FuzzPrintable(f *testing.F) {
	f.Add("x\x1b[2J", 3)
	f.Add(strings.Repeat("é", 100), 10)
	f.Fuzz(func(t *testing.T, s string, limit int) {
		limit = 3 + (limit&0x7fff)%200
		got := Printable(s, limit)
		if len(got) > limit || !utf8.ValidString(got) {
			t.Fatalf("%q to %d bytes: %q", s, limit, got)
		}
		for _, r := range got {
			if !unicode.IsPrint(r) {
				t.Fatalf("%q: %q is not printable", s, r)
			}
		}
		for columns := range 12 {
			if cut := Cut(got, columns); Width(cut) > columns {
				t.Fatalf("%q cut to %d columns takes %d", got, columns, Width(cut))
			}
		}
	})
}

func TestFourMegabytesAreCutAtOnce(t *testing.T) {
	got := Printable(strings.Repeat("\x1b[31m日", 1<<19), 1000)
	if len(got) > 1000 || !strings.HasSuffix(got, "…") {
		t.Errorf("%d bytes are left, which end in %q", len(got), got[len(got)-3:])
	}
}

func TestCutCountsColumns(t *testing.T) {
	for _, c := range []struct {
		text    string
		columns int
		want    string
	}{
		{"short", 5, "short"},
		{"longer", 5, "long…"},
		{"日本語", 6, "日本語"},
		{"日本語", 5, "日本…"},
		{"日本語", 4, "日…"},
		{"e\u0301te\u0301", 3, "e\u0301te\u0301"},
		{"any", 1, "…"},
		{"any", 0, ""},
	} {
		if got := Cut(c.text, c.columns); got != c.want {
			t.Errorf("%q to %d columns: got %q, want %q", c.text, c.columns, got, c.want)
		}
	}
}
