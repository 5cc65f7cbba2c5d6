package conformance_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"github.com/annex-api/annex/extension/extensiontest/conformance"
	"github.com/annex-api/annex/extension/extensiontest/internal/broken"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

// report is a run with each outcome.
func report() conformance.Report {
	exchange := &conformance.Exchange{
		Method: "GET", URL: "/apis/example.com/v1/widgets?watch=true", RequestHeader: http.Header{"Accept": {"application/json"}, "Authorization": {"not shown"}},
		Code: 200, Header: http.Header{"Content-Type": {"application/json"}, "Date": {"not shown"}},
		Body: `{"type":"ADDED","object":{"metadata":{"name":"a<b"}}}`, Took: 12 * time.Millisecond,
	}
	check := func(id string, faults ...int) conformance.Check {
		return conformance.Check{ID: id, Promise: "What is promised.", Source: "https://example.com/contract", Faults: faults}
	}
	return conformance.Report{
		Plan: conformance.Plan{
			Target: "widgets of example.com/v1 at https://example.com", Creates: []string{"Namespace annex-conformance-abcde"},
			Changes: []string{"APIService v1.example.com loses its caBundle for a moment"}, Checks: []string{"get/one", "watch/two", "list/three"},
		},
		Summary: conformance.Summary{
			Results: []conformance.Result{
				{Check: check("get/one"), Outcome: conformance.Passed, Took: 30 * time.Millisecond},
				{Check: check("watch/two", 2), Outcome: conformance.Failed, Took: 2 * time.Second, Failures: []conformance.Failure{
					{Message: "ADDED of a came, which was there before", Exchange: exchange},
					{Message: "nothing else came"},
				}},
				{Check: check("list/three"), Outcome: conformance.NotApplicable, Reason: "no second user was given"},
			},
			Left: []string{"namespace annex-conformance-abcde: still there"}, Took: 2100 * time.Millisecond,
		},
	}
}

// golden compares with a file below testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *rewrite {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (go test -rewrite writes it anew):\n%s", name, diff)
	}
}

func TestTable(t *testing.T) {
	r := report()
	var b bytes.Buffer
	table := conformance.Table(&b)
	table.Planned(r.Plan)
	for _, result := range r.Summary.Results {
		table.Checked(result)
	}
	table.Finished(r.Summary)
	golden(t, "table.txt", b.String())
}

func TestJSON(t *testing.T) {
	r := report()
	var b bytes.Buffer
	if err := conformance.WriteJSON(&b, r); err != nil {
		t.Fatal(err)
	}
	if !json.Valid(b.Bytes()) {
		t.Error("it is no JSON")
	}
	golden(t, "report.json", b.String())
	var reported bytes.Buffer
	reporter := conformance.JSON(&reported)
	reporter.Planned(r.Plan)
	reporter.Finished(r.Summary)
	if diff := cmp.Diff(b.String(), reported.String()); diff != "" {
		t.Errorf("the reporter writes something else:\n%s", diff)
	}
}

func TestJUnit(t *testing.T) {
	var b bytes.Buffer
	broken := report()
	broken.Summary.Err = errors.New("stopped after 3 checks")
	if err := conformance.WriteJUnit(&b, report(), broken); err != nil {
		t.Fatal(err)
	}
	var document struct {
		Suites []struct {
			Tests    int `xml:"tests,attr"`
			Failures int `xml:"failures,attr"`
			Errors   int `xml:"errors,attr"`
			Skipped  int `xml:"skipped,attr"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(b.Bytes(), &document); err != nil {
		t.Fatal(err)
	}
	if len(document.Suites) != 2 || document.Suites[0].Tests != 3 || document.Suites[0].Failures != 1 || document.Suites[0].Skipped != 1 || document.Suites[1].Errors != 1 {
		t.Errorf("the suites are %+v", document.Suites)
	}
	golden(t, "junit.xml", b.String())
}

// TestChecksExplainThemselves: each check has what a reader of a failure needs, and each fault a check.
func TestChecksExplainThemselves(t *testing.T) {
	ids := map[string]bool{}
	faults := map[int]bool{}
	for _, c := range conformance.Checks() {
		if ids[c.ID] {
			t.Errorf("two checks are called %s", c.ID)
		}
		ids[c.ID] = true
		if c.Promise == "" || !strings.HasSuffix(c.Promise, ".") || c.Source == "" || c.Run == nil || strings.Count(c.ID, "/") != 1 {
			t.Errorf("%s lacks a promise, a source or a function, or its ID is not of the form group/name", c.ID)
		}
		for _, fault := range c.Faults {
			faults[fault] = true
			if conformance.FaultName(fault) == "" {
				t.Errorf("%s names fault %d, which is none", c.ID, fault)
			}
		}
	}
	for fault := 1; fault <= conformance.Faults(); fault++ {
		if !faults[fault] {
			t.Errorf("no check names fault %d, %s", fault, conformance.FaultName(fault))
		}
	}
	if conformance.FaultName(0) != "" || conformance.FaultName(conformance.Faults()+1) != "" {
		t.Error("numbers beyond the faults have names")
	}
}

// TestBadTargetsAreNamed: what is wrong with a target is said before anything is created.
func TestBadTargetsAreNamed(t *testing.T) {
	good := broken.Start(t, broken.None).Target()
	for name, c := range map[string]struct {
		change func(*conformance.Target)
		want   string
	}{
		"no configuration":  {func(t *conformance.Target) { t.Config = nil }, "no client configuration"},
		"no resource":       {func(t *conformance.Target) { t.Resource = schema.GroupVersionResource{} }, "needs a version and a name"},
		"unknown resource":  {func(t *conformance.Target) { t.Resource.Resource = "others" }, "has no resource others"},
		"unknown group":     {func(t *conformance.Target) { t.Resource.Group = "other.example.com" }, "find other.example.com/v1"},
		"unknown check":     {func(t *conformance.Target) { t.Only = []string{"wotch/*"} }, `no check is called "wotch/*"`},
		"bad pattern":       {func(t *conformance.Target) { t.Skip = []string{"["} }, "syntax error in pattern"},
		"nobody there":      {func(t *conformance.Target) { t.Config = &rest.Config{Host: "127.0.0.1:1"} }, "connection refused"},
		"no right":          {func(t *conformance.Target) { t.Config = rest.AnonymousClientConfig(t.Config) }, "401 Unauthorized"},
		"sample is refused": {func(t *conformance.Target) { t.Sample = badSample() }, "does not take the sample object"},
	} {
		t.Run(name, func(t *testing.T) {
			target := good
			c.change(&target)
			s := conformance.Run(t.Context(), target, nil)
			if s.Err == nil || !strings.Contains(s.Err.Error(), c.want) {
				t.Errorf("the error is %v, want one with %q", s.Err, c.want)
			}
			if len(s.Results)+len(s.Left) > 0 {
				t.Errorf("there are results %v, left %v", s.Results, s.Left)
			}
		})
	}
}
