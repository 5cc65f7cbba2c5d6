package diagnosis

import (
	"slices"
	"testing"
)

func TestWhatNobodyWantedIsNoStep(t *testing.T) {
	for name, c := range map[string]struct {
		apply Known[Answer]
		want  Result
	}{
		"not asked": {Known[Answer]{}, ""},
		"forbidden": {Unseen[Answer](ErrForbidden), NotSeen},
		"applied":   {Saw(Answer{Code: 200}), Passed},
	} {
		s := healthy()
		s.a.Apply = c.apply
		report := Diagnose(s.Facts, s.name)
		var got Result
		if i := slices.IndexFunc(report.Steps, func(s Step) bool { return s.Check == "objects can be applied" }); i >= 0 {
			got = report.Steps[i].Result
		}
		if got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}
