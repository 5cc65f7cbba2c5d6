package main

import (
	"strings"
	"testing"
)

func TestRatiosAreOfMedians(t *testing.T) {
	r := report{options: options{drivers: []string{sqlite}}}
	for round, v := range [][2]float64{{100, 90}, {200, 170}, {110, 121}} {
		r.samples = append(r.samples,
			sampled{sample, round, "get", "cpu each, us", v[0], 0.95}, sampled{sdk, round, "get", "cpu each, us", v[1], 0.95})
	}
	r.samples = append(r.samples, sampled{sqlite, 1, "get", "cpu each, us", 77, 0.95}, sampled{sqlite, 1, "start", "to ready, ms", 1200, 0})
	for _, c := range []struct {
		cells [][]string
		want  string
	}{
		{r.comparison(), "get cpu each, us 110.0 121.0 1.10x 0.85 to 1.10 0.95x missed"},
		{r.beside(), "get cpu each, us 121.0 77.0"},
		{r.beside()[1:], "start to ready, ms  1200.0, below 1000 missed"},
	} {
		if got := strings.Join(c.cells[1], " "); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

func TestAChangedObjectKeepsItsVersion(t *testing.T) {
	got, err := changed([]byte(`{"apiVersion":"a/v1","kind":"K","metadata":{"resourceVersion":"7","labels":{"x":"y"}},"spec":{"reference":"r"}}`), 3)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"apiVersion":"a/v1","kind":"K","metadata":{"labels":{"round":"3","x":"y"},"resourceVersion":"7"},"spec":{"reference":"r"}}`
	if string(got) != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestBadFlagsAreRefused(t *testing.T) {
	for _, args := range [][]string{{"-rounds", "0"}, {"-objects", "10"}, {"-drivers", "oracle"}, {"extra"}} {
		if _, err := parse(args); err == nil {
			t.Errorf("%v was taken", args)
		}
	}
	if o, err := parse([]string{"-short", "-drivers", "-"}); err != nil || len(o.drivers) != 0 || o.sizes.Objects < few {
		t.Errorf("got %+v, %v", o, err)
	}
}
