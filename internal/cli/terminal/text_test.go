package terminal

import (
	"strings"
	"testing"

	"github.com/annex-api/annex/internal/printable"
)

func FuzzCut(f *testing.F) {
	f.Add("x\x1b[2J")
	f.Add(strings.Repeat("é", 100))
	f.Fuzz(func(t *testing.T, s string) {
		text := printable.Line(s, 200)
		for columns := range 12 {
			if cut := Cut(text, columns); Width(cut) > columns {
				t.Fatalf("%q cut to %d columns takes %d", text, columns, Width(cut))
			}
		}
	})
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
