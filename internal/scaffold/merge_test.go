package scaffold

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestMerge(t *testing.T) {
	lines := func(words string) []byte {
		if words == "" {
			return nil
		}
		return []byte(strings.ReplaceAll(words, " ", "\n") + "\n")
	}
	for name, test := range map[string]struct {
		base, mine, theirs string
		both               bool
		want               string
		conflict           bool
	}{
		"mine alone":               {base: "a b c", mine: "a x c", theirs: "a b c", want: "a x c"},
		"theirs alone":             {base: "a b c", mine: "a b c", theirs: "a b y c", want: "a b y c"},
		"in two places":            {base: "a b c d", mine: "x b c d", theirs: "a b c d y", want: "x b c d y"},
		"the same":                 {base: "a b", mine: "a x", theirs: "a x", want: "a x"},
		"removed and added":        {base: "a b c d e", mine: "a c d e", theirs: "a b c d x e", want: "a c d x e"},
		"one line":                 {base: "a b c", mine: "a x c", theirs: "a y c", conflict: true},
		"added at one place":       {base: "a b", mine: "a x b", theirs: "a y b", conflict: true},
		"added, both kept":         {base: "a b", mine: "a x b", theirs: "a y b", both: true, want: "a x y b"},
		"added before already":     {base: "a b", mine: "a x y b", theirs: "a y b", both: true, want: "a x y b"},
		"added behind a change":    {base: "a b c", mine: "a x c", theirs: "a b y c", both: true, want: "a x y c"},
		"added before a change":    {base: "a b c", mine: "a x c", theirs: "a y b c", both: true, conflict: true},
		"changed, both not":        {base: "a b c", mine: "a x c", theirs: "a y c", both: true, conflict: true},
		"what theirs changed went": {base: "a b c", mine: "a c", theirs: "a y c", conflict: true},
	} {
		t.Run(name, func(t *testing.T) {
			got, clean := merge(lines(test.base), lines(test.mine), lines(test.theirs), test.both)
			if clean == test.conflict {
				t.Fatalf("clean is %v:\n%s", clean, got)
			}
			if clean && string(got) != string(lines(test.want)) {
				t.Errorf("got %q, want %q", got, lines(test.want))
			}
			if marks := strings.Contains(string(got), "<<<<<<< yours\n") && strings.Contains(string(got), ">>>>>>> the scaffold\n"); marks != test.conflict {
				t.Errorf("marks: %v in\n%s", marks, got)
			}
		})
	}
}

// TestMergeLaws holds for any three texts, with and without an end of the last line.
func TestMergeLaws(t *testing.T) {
	text := rapid.Custom(func(t *rapid.T) []byte {
		lines := rapid.SliceOfN(rapid.SampledFrom([]string{"a\n", "b\n", "c\n", "\n"}), 0, 8).Draw(t, "lines")
		return []byte(strings.Join(lines, "") + rapid.SampledFrom([]string{"", "z"}).Draw(t, "last"))
	})
	rapid.Check(t, func(t *rapid.T) {
		base, mine := text.Draw(t, "base"), text.Draw(t, "mine")
		for what, got := range map[string]func() ([]byte, bool){
			"nothing new":   func() ([]byte, bool) { return merge(base, mine, base, false) },
			"nothing mine":  func() ([]byte, bool) { return merge(base, base, mine, false) },
			"both the same": func() ([]byte, bool) { return merge(base, mine, mine, false) },
		} {
			if merged, clean := got(); !clean || string(merged) != string(mine) {
				t.Errorf("%s: %q, %v", what, merged, clean)
			}
		}
	})
}

func TestTextsTooLongToCompareAreAConflict(t *testing.T) {
	long := []byte(strings.Repeat("a\n", 6000))
	if _, clean := merge(long, long, append(long, 'b'), false); clean {
		t.Error("they were compared")
	}
}
