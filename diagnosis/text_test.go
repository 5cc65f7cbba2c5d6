package diagnosis

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestNearest(t *testing.T) {
	names := []string{"v1.apps", "v1beta1.metrics.k8s.io", "v1beta1.custom.metrics.k8s.io", "v1.widgets.example.com", "ANX201", strings.Repeat("v", 5000)}
	for typed, want := range map[string]string{
		"v1beta1.metric.k8s.io":  "v1beta1.metrics.k8s.io",
		"metrics":                "v1beta1.custom.metrics.k8s.io v1beta1.metrics.k8s.io",
		"V1.Apps":                "v1.apps",
		"v1.appz":                "v1.apps",
		"anx201":                 "ANX201",
		"nx2":                    "ANX201",
		"nothing-of-the-kind":    "",
		"":                       "",
		strings.Repeat("v", 5e6): "",
	} {
		if got := strings.Join(Nearest(typed, names), " "); got != want {
			t.Errorf("%.30q: got %q, want %q", typed, got, want)
		}
	}
}

func TestPrintable(t *testing.T) {
	for _, c := range []struct {
		in   string
		most int
		want string
	}{
		{"plain", 10, "plain"},
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
		if got := Printable(c.in, c.most); got != c.want {
			t.Errorf("%q in %d: got %q, want %q", c.in, c.most, got, c.want)
		}
	}
}

func TestFourMegabytesAreCutAtOnce(t *testing.T) {
	got := Printable(strings.Repeat("\x1b[31m日", 1<<19), 1000)
	if len(got) > 1000 || !strings.HasSuffix(got, "…") {
		t.Errorf("%d bytes are left, which end in %q", len(got), got[len(got)-3:])
	}
}

func FuzzPrintable(f *testing.F) {
	f.Add("x\x1b[2J", 3)
	f.Add(strings.Repeat("é", 100), 10)
	f.Fuzz(func(t *testing.T, s string, most int) {
		most = (most & 0x7fff) % 200
		got := Printable(s, most)
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
