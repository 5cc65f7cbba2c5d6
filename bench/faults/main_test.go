package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/annex-api/annex/bench/internal/build"
	"github.com/annex-api/annex/bench/internal/fixture"
	"github.com/annex-api/annex/bench/internal/load"
)

func TestScenariosAndServersAreChosenInTheirOrder(t *testing.T) {
	o, err := parse([]string{"-only", "f1,A", "-subjects", "annex,reference"})
	if err != nil {
		t.Fatal(err)
	}
	if len(o.scenarios) != 2 || o.scenarios[0].letter != "A" || o.scenarios[1].letter != "F1" || strings.Join(o.subjects, " ") != "reference annex" {
		t.Errorf("%v of %v", o.scenarios, o.subjects)
	}
	all, err := parse(nil)
	if err != nil || len(all.scenarios) != len(scenarios) || len(all.subjects) != 2 {
		t.Errorf("by default %v of %v, %v", all.scenarios, all.subjects, err)
	}
	short, err := parse([]string{"-short"})
	if err != nil || len(short.subjects) != 1 || short.subjects[0] != build.Annex {
		t.Errorf("the short form runs %v, %v", short.subjects, err)
	}
}

func TestBadFlagsAreRefused(t *testing.T) {
	for _, args := range [][]string{{"-only", "Z"}, {"-only", "A,"}, {"-subjects", "other"}, {"extra"}} {
		if _, err := parse(args); err == nil {
			t.Errorf("%v was taken", args)
		}
	}
}

func TestTheTable(t *testing.T) {
	sc := scenario{letter: "A", title: "a fault", goal: "0 failed"}
	r := report{Rows: []row{
		newRow(sc, build.Reference, outcome{
			tally:    load.Tally{Sent: 10, Failed: 2, Slow: 1, Failures: map[string]load.Failure{"status 503": {Count: 2}}},
			measures: []measure{{Name: "late", Value: 30, Unit: "%"}, {Name: "after", Value: 1.25, Unit: "s"}},
		}),
		newRow(sc, build.Annex, outcome{counted: true, timely: true}),
	}}
	var table bytes.Buffer
	if err := r.table(&table); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(table.String()), "\n")
	if len(lines) != 4 {
		t.Fatalf("%d lines:\n%s", len(lines), table.String())
	}
	if got, want := strings.Join(strings.Fields(lines[2]), " "), "| A | reference | 10 | 2 | 1 | 0.0 | 0.0 | late 30 %; after 1.25 s; 2: status 503 | 0 failed | missed |"; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	// What sends no requests has no counts.
	if got, want := strings.Join(strings.Fields(lines[3]), " "), "| A | annex | | | | | | | 0 failed | reached |"; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	var document bytes.Buffer
	if err := (report{Short: true, Rows: r.Rows}).markdown(&document); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"The short form, ",
		"\n\n|  | server | sent | failed | slow | p50 ms | p99 ms | also | goal |  |\n| --- |",
		"\n| A | reference | 10 | 2 | 1 | 0.0 | 0.0 | late 30 %; after 1.25 s; 2: status 503 | 0 failed | missed |\n",
		"\n| A | annex |  |  |  |  |  |  | 0 failed | reached |\n",
	} {
		if !strings.Contains(document.String(), want) {
			t.Errorf("%q is missing in\n%s", want, document.String())
		}
	}
	var encoded bytes.Buffer
	if err := r.json(&encoded); err != nil {
		t.Fatal(err)
	}
	var back report
	if err := json.Unmarshal(encoded.Bytes(), &back); err != nil || len(back.Rows) != 2 || back.Rows[0].Failures["status 503"].Count != 2 {
		t.Errorf("%+v, %v", back, err)
	}
}

func TestTimesAreToldFromCounts(t *testing.T) {
	for _, c := range []struct {
		o    outcome
		want string
	}{
		{outcome{counted: true, timely: true}, "reached"},
		{outcome{counted: true}, "missed in time"},
		{outcome{timely: true}, "missed"},
		{outcome{}, "missed"},
	} {
		r := newRow(scenario{}, build.Annex, c.o)
		if r.verdict() != c.want || r.Counted != c.o.counted {
			t.Errorf("%+v: %q, want %q", c.o, r.verdict(), c.want)
		}
	}
	if got := (row{NotRun: "no nft"}).verdict(); got != "not run" {
		t.Errorf("%q", got)
	}
	// A failure counts whether or not it was quick; a slow answer does not.
	for _, c := range []struct {
		t               load.Tally
		counted, timely bool
	}{
		{load.Tally{Sent: 100, Failed: 1}, true, true},
		{load.Tally{Sent: 100, Failed: 2}, false, false},
		{load.Tally{Sent: 100, Slow: 2}, true, false},
	} {
		if o := few(c.t); o.counted != c.counted || o.timely != c.timely {
			t.Errorf("%+v: %+v", c.t, o)
		}
	}
}

func TestWhatBecameOfAnotherLoadIsShown(t *testing.T) {
	var o outcome
	o.add("others", load.Tally{Sent: 7, Failures: map[string]load.Failure{"status 503": {Count: 2}, "status 429": {Count: 3}}})
	var got []string
	for _, m := range o.measures {
		got = append(got, m.String())
	}
	if want := "others 7; of these status 429 3; of these status 503 2"; strings.Join(got, "; ") != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestProcessorTimeIsAShareOfTheTime(t *testing.T) {
	if got := (use{cpu: 300 * time.Millisecond, watched: 2 * time.Second}).share(); got != 150 {
		t.Errorf("%v ms/s, want 150", got)
	}
	if got := (use{}).share(); got != 0 {
		t.Errorf("%v ms/s of no time", got)
	}
}

func TestEveryHostileKindIsThere(t *testing.T) {
	for _, kind := range []string{"endless", "huge", "gzip-bomb", "many-resources", "slow", "nested", "flapping", "slow-headers", "changing", "hanging"} {
		n, err := number(kind)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := fixture.HostileKind(fixture.Group(n)); !ok || got != kind {
			t.Errorf("%d is %q, want %q", n, got, kind)
		}
	}
	if _, err := number("kind"); err == nil {
		t.Error("a kind that is not there was found")
	}
}

func TestTheJournalsAreReadByMethod(t *testing.T) {
	s := &stage{dir: t.TempDir()}
	for _, content := range []string{"POST 1\nGET \nPOST 2\n", "POST 2\nCONNECT \n"} {
		r := s.replica()
		if err := os.WriteFile(filepath.Join(s.dir, filepath.Base(r.journal)), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for method, want := range map[string]string{"POST": "1 2 2", "CONNECT": "", "GET": ""} {
		ids, err := s.noted(method)
		if err != nil || strings.Join(ids, " ") != want {
			t.Errorf("%s: %q, %v, want %q", method, ids, err, want)
		}
	}
	if ids, err := s.noted("GET"); err != nil || len(ids) != 1 {
		t.Errorf("%d GETs, %v, want 1", len(ids), err)
	}
	s.replica()
	if _, err := s.noted("GET"); err == nil {
		t.Error("a journal that is not there was read")
	}
}

func TestASliceTellsWhoTerminates(t *testing.T) {
	got, err := json.Marshal(slice(4, []endpoint{{host: "10.77.1.1"}, {host: "10.77.1.2", terminating: true}})["endpoints"])
	want := `[{"addresses":["10.77.1.1"],"conditions":{"ready":true,"serving":true,"terminating":false}},` +
		`{"addresses":["10.77.1.2"],"conditions":{"ready":false,"serving":true,"terminating":true}}]`
	if err != nil || string(got) != want {
		t.Errorf("%s, %v\nwant %s", got, err, want)
	}
}

func TestAScriptThatFailsEndsTheLoad(t *testing.T) {
	broken := errors.New("the fault could not be made")
	_, err := during(t.Context(), func(ctx context.Context) (load.Tally, error) {
		<-ctx.Done()
		return load.Tally{}, ctx.Err()
	}, func(context.Context) error { return broken })
	if !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	_, err = during(t.Context(), func(context.Context) (load.Tally, error) {
		return load.Tally{}, broken
	}, func(ctx context.Context) error { return after(ctx, time.Hour, func() error { return nil }) })
	if !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}
