package printable

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestLine(t *testing.T) {
	for _, c := range []struct {
		in   string
		most int
		want string
	}{
		{"plain", 10, "plain"},
		{"plain words, 100 % of ASCII: ~!", 40, "plain words, 100 % of ASCII: ~!"},
		{"two  spaces", 40, "two spaces"},
		{" before", 40, "before"},
		{"after ", 40, "after"},
		{" ", 40, ""},
		{"delete\x7f", 40, "delete�"},
		{" a \n\t b ", 10, "a b"},
		{"two\r\n\tlines\n", 39, "two lines"},
		{"\x1b[31mred\x07", 20, "�[31mred�"},
		{"\x1b]0;title\x07", 39, "�]0;title�"},
		{"C1 \u009b2J \x9b2J", 39, "C1 �2J �2J"},
		{"right\u202eto left\u2066", 39, "right�to left�"},
		{"zero\u200bwidth\ufeff", 39, "zero�width�"},
		{"a" + strings.Repeat("\u0301", 9), 39, "a" + strings.Repeat("\u0301", maxMarks)},
		{"日本\u2028語\u00a0!", 39, "日本 語 !"},
		{"", 39, ""},
		{"äöü-äöü", 9, "äöü…"},
		{"äöü-äöü", 0, ""},
		{"too long", 2, "to"},
		{strings.Repeat("long ", 20), 39, "long long long long long long long l…"},
		{"<b>€</b>", 20, "<b>€</b>"},
	} {
		if got := Line(c.in, c.most); got != c.want {
			t.Errorf("%q in %d: got %q, want %q", c.in, c.most, got, c.want)
		}
	}
}

func TestFourMegabytesAreCutAtOnce(t *testing.T) {
	got := Line(strings.Repeat("\x1b[31m日", 1<<19), 1000)
	if len(got) > 1000 || !strings.HasSuffix(got, "…") {
		t.Errorf("%d bytes are left, which end in %q", len(got), got[len(got)-3:])
	}
}

// Most lines are plain, and cost nothing.
func TestAPlainLineStaysItself(t *testing.T) {
	const line = "service/widgets in \"shop\" is not present"
	if n := testing.AllocsPerRun(100, func() {
		if Line(line, 100) != line {
			t.Error("it is changed")
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzLine(f *testing.F) {
	f.Add("x\x1b[2J", 3)
	f.Add(strings.Repeat("é", 100), 10)
	f.Fuzz(func(t *testing.T, s string, most int) {
		most = (most & 0x7fff) % 200
		got := Line(s, most)
		if again := Line(got, most); again != got {
			t.Fatalf("%q to %d bytes: %q, and that %q", s, most, got, again)
		}
		if len(got) > most || !utf8.ValidString(got) {
			t.Fatalf("%q to %d bytes: %q", s, most, got)
		}
		for _, r := range got {
			if !unicode.IsPrint(r) {
				t.Fatalf("%q: %q is not printable", s, r)
			}
		}
	})
}
