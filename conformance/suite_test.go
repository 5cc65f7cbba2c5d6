package main

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"testing"
)

const events = `{"Action":"run","Test":"TestA"}
{"Action":"output","Test":"TestA","Output":"hello\n"}
{"Action":"fail","Test":"TestA/sub","Elapsed":0.5}
{"Action":"fail","Test":"TestA","Elapsed":1.5}
{"Action":"pass","Test":"TestB","Elapsed":2}
{"Action":"skip","Test":"TestC"}
not an event
{"Action":"fail"}`

func TestReadCountsTopLevelTestsAndNamesEveryFailure(t *testing.T) {
	var r result
	var log, progress bytes.Buffer
	if err := r.read(strings.NewReader(events), &log, &progress); err != nil {
		t.Fatal(err)
	}
	if r.passed != 1 || r.failed != 1 || r.skipped != 1 || !slices.Equal(r.failures, []string{"TestA/sub", "TestA"}) {
		t.Errorf("got %+v", r)
	}
	if got := log.String(); got != "hello\nnot an event\n" {
		t.Errorf("log %q", got)
	}
	if got := progress.String(); got != "  fail TestA 1.5s\n  pass TestB 2.0s\n  skip TestC 0.0s\n" {
		t.Errorf("progress %q", got)
	}
}

func TestReportErrsUnlessEverySuitePassed(t *testing.T) {
	good := result{suite: "good", passed: 3, skipped: 1}
	for name, c := range map[string]struct {
		second result
		want   string
	}{
		"passed":      {result{passed: 1}, ""},
		"a failure":   {result{passed: 1, failed: 1, failures: []string{"TestX"}}, "1 of 2 suites failed"},
		"broken":      {result{passed: 1, broken: "it panicked"}, "1 of 2 suites failed"},
		"no test ran": {result{}, "1 of 2 suites failed"},
		"all skipped": {result{skipped: 2}, "1 of 2 suites failed"},
	} {
		var out bytes.Buffer
		err := report(&out, []result{good, c.second})
		if (err == nil) != (c.want == "") || err != nil && err.Error() != c.want {
			t.Errorf("%s: error %v, want %q", name, err, c.want)
		}
		for _, failure := range append(c.second.failures, c.second.broken) {
			if !strings.Contains(out.String(), failure) {
				t.Errorf("%s: no %q in\n%s", name, failure, out.String())
			}
		}
	}
}

func TestParse(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	o, err := parse([]string{"-reference", "examples", "--", "-run", "TestX"})
	if err != nil || !o.reference || !slices.Equal(o.suites, []string{"examples"}) || !slices.Equal(o.testArgs, []string{"-run", "TestX"}) {
		t.Errorf("got %+v, %v", o, err)
	}
	if o, err := parse(nil); err != nil || !slices.Equal(o.suites, suites) {
		t.Errorf("by default %v, %v", o.suites, err)
	}
	for _, bad := range [][]string{{"../../etc"}, {"/etc"}, {"-timeout=0s"}} {
		if _, err := parse(bad); err == nil {
			t.Errorf("%v was taken", bad)
		}
	}
}

func TestReadFailsWithItsLog(t *testing.T) {
	var r result
	if err := r.read(strings.NewReader(events), fullDisk{}, io.Discard); err == nil {
		t.Error("a log that cannot be written was not noticed")
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, io.ErrShortWrite }
