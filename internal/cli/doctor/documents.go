package doctor

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"strings"

	"github.com/annex-api/annex/diagnosis"
	"github.com/annex-api/annex/internal/printable"
)

// write writes what was found in the form that is wanted.
func (o *Options) write(found outcome) error {
	switch o.Output {
	case "junit":
		return writeJUnit(o.IO.Out, found)
	case "json", "yaml":
		return o.document(found)
	}
	return o.text(o.page(), found)
}

func writeJSON(w io.Writer, value any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(value)
}

// junit is the form of reports that CI systems read: a suite for each APIService, and in it a case
// for each check.
type junit struct {
	XMLName  xml.Name `xml:"testsuites"`
	Name     string   `xml:"name,attr"`
	Tests    int      `xml:"tests,attr"`
	Failures int      `xml:"failures,attr"`
	Skipped  int      `xml:"skipped,attr"`
	Suites   []suite  `xml:"testsuite"`
}

type suite struct {
	Name     string     `xml:"name,attr"`
	Tests    int        `xml:"tests,attr"`
	Failures int        `xml:"failures,attr"`
	Skipped  int        `xml:"skipped,attr"`
	Cases    []testcase `xml:"testcase"`
}

type testcase struct {
	Class   string   `xml:"classname,attr"`
	Name    string   `xml:"name,attr"`
	Failure *problem `xml:"failure,omitempty"`
	Skipped *problem `xml:"skipped,omitempty"`
	// Out is what is possible, and fails nothing.
	Out string `xml:"system-out,omitempty"`
}

type problem struct {
	Message string `xml:"message,attr,omitempty"`
	Type    string `xml:"type,attr,omitempty"`
	Text    string `xml:",chardata"`
}

func writeJUnit(w io.Writer, found outcome) error {
	all := junit{Name: "annex doctor"}
	for _, r := range found.Reports {
		s := suiteOf(r)
		all.Tests, all.Failures, all.Skipped = all.Tests+s.Tests, all.Failures+s.Failures, all.Skipped+s.Skipped
		all.Suites = append(all.Suites, s)
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	if err := e.Encode(all); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

func suiteOf(r diagnosis.Report) suite {
	name := printable.Line(r.APIService, maxName)
	s := suite{Name: name}
	told := map[diagnosis.Code]bool{}
	for _, step := range r.Steps {
		c := testcase{Class: name + "." + string(step.Stage), Name: step.Check}
		switch step.Result {
		case diagnosis.Found:
			if c.Failure, c.Out = failure(r, step.Codes, told); c.Failure != nil {
				s.Failures++
			}
		case diagnosis.NotSeen:
			c.Skipped = &problem{Message: whyUnseen(r, step.Check)}
			s.Skipped++
		case diagnosis.NotReached:
			c.Skipped = &problem{Message: "a fault before it on the way hides it"}
			s.Skipped++
		}
		s.Cases = append(s.Cases, c)
	}
	for _, f := range r.Findings { // one that belongs to no step
		if p, _ := failure(r, []diagnosis.Code{f.Code}, told); p != nil {
			s.Cases = append(s.Cases, testcase{Class: name, Name: printable.Line(f.Title, maxText), Failure: p})
			s.Failures++
		}
	}
	s.Tests = len(s.Cases)
	return s
}

// failure is what findings with these codes say that make an APIService faulty; nil where there are none, or
// they were told before. What is possible is told apart.
func failure(r diagnosis.Report, codes []diagnosis.Code, told map[diagnosis.Code]bool) (p *problem, possible string) {
	for _, code := range codes {
		for _, f := range r.Findings {
			if f.Code != code || told[code] || f.Severity == diagnosis.Info {
				continue
			}
			told[code] = true
			text := finding(f)
			if f.Confidence == diagnosis.Possible {
				possible += text
				continue
			}
			if p == nil {
				p = &problem{Message: printable.Line(string(f.Code)+" "+f.Title, maxText), Type: f.Name}
			}
			p.Text += text
		}
	}
	return p, possible
}

// finding is one in lines.
func finding(f diagnosis.Finding) string {
	lines := append([]string{fmt.Sprintf("%s %s (%s)", f.Code, f.Title, f.Confidence), f.Evidence}, diagnosis.Script(f.Remedy)...)
	var b strings.Builder
	for _, line := range append(lines, f.See) {
		b.WriteString(printable.Line(line, maxCommand) + "\n")
	}
	return b.String()
}

func whyUnseen(r diagnosis.Report, check string) string {
	for _, b := range r.Unseen {
		if b.Check == check {
			return printable.Line(b.What+": "+b.Why, maxText)
		}
	}
	return "it could not be seen"
}
