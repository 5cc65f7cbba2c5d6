package conformance

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"time"
)

// Table reports a line for each check as it ends, and the failures in full at the end.
func Table(w io.Writer) Reporter { return table{w: w} }

type table struct{ w io.Writer }

// What cannot be written is lost: the summary, which Run returns, has all of it.
func (t table) print(format string, args ...any) { _, _ = fmt.Fprintf(t.w, format, args...) }

func (t table) Planned(p Plan) { _, _ = io.WriteString(t.w, p.String()+"\n") }

func (t table) Checked(r Result) {
	why := ""
	if r.Reason != "" {
		why = "  " + r.Reason
	}
	t.print("%-14s  %-28s  %6.2fs%s\n", r.Outcome, r.Check.ID, r.Took.Seconds(), why)
}

func (t table) Finished(s Summary) {
	for _, r := range s.Failed() {
		t.print("\n%s", r.Explain())
	}
	for _, left := range s.Left {
		t.print("\nleft behind: %s\n", left)
	}
	if s.Err != nil {
		t.print("\n%v\n", s.Err)
	}
	t.print("\n%d passed, %d failed, %d not applicable, in %.1fs\n", s.Count(Passed), s.Count(Failed), s.Count(NotApplicable), s.Took.Seconds())
}

// String says what a run does, over several lines.
func (p Plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Checks %s: %d checks.\n", p.Target, len(p.Checks))
	list := func(title string, lines []string) {
		if len(lines) > 0 {
			fmt.Fprintf(&b, "%s\n  %s\n", title, strings.Join(lines, "\n  "))
		}
	}
	list("It creates, and removes at the end:", p.Creates)
	list("It changes, and sets back:", p.Changes)
	if len(p.Creates)+len(p.Changes) == 0 {
		b.WriteString("It creates and changes nothing.\n")
	}
	return b.String()
}

// Explain says what a failed check saw: what was sent, what came, what the contract says, and where that
// is written.
func (r Result) Explain() string {
	var b strings.Builder
	fmt.Fprintf(&b, "FAILED %s\n", r.Check.ID)
	fmt.Fprintf(&b, "  the contract: %s\n", r.Check.Promise)
	fmt.Fprintf(&b, "  written at:   %s\n", r.Check.Source)
	for _, fault := range r.Check.Faults {
		fmt.Fprintf(&b, "  known fault:  %d, %s\n", fault, FaultName(fault))
	}
	for _, f := range r.Failures {
		fmt.Fprintf(&b, "  %s\n", f.Message)
		if f.Exchange != nil {
			for line := range strings.Lines(f.Exchange.String()) {
				fmt.Fprintf(&b, "    %s\n", strings.TrimRight(line, "\n"))
			}
		}
	}
	return b.String()
}

// Report is a whole run.
type Report struct {
	Plan    Plan
	Summary Summary
}

// JSON reports a run as WriteJSON does, at its end.
func JSON(w io.Writer) Reporter { return &atEnd{w: w, write: WriteJSON} }

// JUnit reports a run as WriteJUnit does, at its end.
func JUnit(w io.Writer) Reporter { return &atEnd{w: w, write: WriteJUnit} }

// atEnd writes a run at its end.
type atEnd struct {
	w     io.Writer
	write func(io.Writer, ...Report) error
	plan  Plan
}

func (d *atEnd) Planned(p Plan) { d.plan = p }
func (d *atEnd) Checked(Result) {}

// What cannot be written is lost: the summary, which Run returns, has all of it.
func (d *atEnd) Finished(s Summary) { _ = d.write(d.w, Report{d.plan, s}) }

// WriteJSON writes runs as one JSON object: {"runs": [...]}.
func WriteJSON(w io.Writer, reports ...Report) error {
	type run struct {
		Plan          Plan     `json:"plan"`
		Error         string   `json:"error,omitempty"`
		Passed        int      `json:"passed"`
		Failed        int      `json:"failed"`
		NotApplicable int      `json:"notApplicable"`
		Seconds       float64  `json:"seconds"`
		Left          []string `json:"left,omitempty"`
		Results       []Result `json:"results"`
	}
	runs := []run{}
	for _, r := range reports {
		s := r.Summary
		runs = append(runs, run{r.Plan, errorText(s.Err), s.Count(Passed), s.Count(Failed), s.Count(NotApplicable), s.Took.Seconds(), s.Left, s.Results})
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(map[string]any{"runs": runs})
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

type junitSuites struct {
	XMLName xml.Name     `xml:"testsuites"`
	Suites  []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Errors   int         `xml:"errors,attr"`
	Skipped  int         `xml:"skipped,attr"`
	Time     string      `xml:"time,attr"`
	Cases    []junitCase `xml:"testcase"`
	Error    string      `xml:"system-err,omitempty"`
}

type junitCase struct {
	Class   string        `xml:"classname,attr"`
	Name    string        `xml:"name,attr"`
	Time    string        `xml:"time,attr"`
	Failure *junitFailure `xml:"failure"`
	Skipped *junitSkipped `xml:"skipped"`
}

type junitFailure struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

type junitSkipped struct {
	Message string `xml:"message,attr"`
}

// WriteJUnit writes runs as one JUnit XML document, a suite for each.
func WriteJUnit(w io.Writer, reports ...Report) error {
	var suites junitSuites
	for _, r := range reports {
		suites.Suites = append(suites.Suites, suiteOf(r.Plan, r.Summary))
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	if err := e.Encode(suites); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

func suiteOf(p Plan, s Summary) junitSuite {
	suite := junitSuite{
		Name: p.Target, Tests: len(s.Results), Failures: s.Count(Failed), Skipped: s.Count(NotApplicable), Time: seconds(s.Took),
	}
	var wrong []string
	if s.Err != nil {
		suite.Errors = 1
		wrong = append(wrong, s.Err.Error())
	}
	for _, left := range s.Left {
		wrong = append(wrong, "left behind: "+left)
	}
	suite.Error = strings.Join(wrong, "\n")
	for _, r := range s.Results {
		group, name, _ := strings.Cut(r.Check.ID, "/")
		c := junitCase{Class: "conformance." + group, Name: name, Time: seconds(r.Took)}
		switch r.Outcome {
		case Failed:
			c.Failure = &junitFailure{Text: r.Explain()}
			if len(r.Failures) > 0 {
				c.Failure.Message = r.Failures[0].Message
			}
		case NotApplicable:
			c.Skipped = &junitSkipped{Message: r.Reason}
		}
		suite.Cases = append(suite.Cases, c)
	}
	return suite
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.3f", d.Seconds()) }
