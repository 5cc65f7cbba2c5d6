package doctor

import (
	"bufio"
	"bytes"
	"encoding/xml"
	"strings"
	"testing"
	"unicode"

	"github.com/annex-api/annex/diagnosis"
	"github.com/annex-api/annex/internal/cli/terminal"
)

const evil = "\x1b[2Jgone\x07 <b>bold</b> \u202eback"

// broken is a report with a root, what follows from it, and what could not be seen.
func broken() diagnosis.Report {
	return diagnosis.Report{
		APIService: "v1beta1.metrics.k8s.io",
		Steps: []diagnosis.Step{
			{Stage: diagnosis.Registration, Check: "the APIService exists", Result: diagnosis.Passed},
			{Stage: diagnosis.Registration, Check: "its Service exists", Result: diagnosis.Passed},
			{Stage: diagnosis.Endpoints, Check: "a Pod is ready behind the Service", Result: diagnosis.Found, Codes: []diagnosis.Code{"ANX201"}},
			{Stage: diagnosis.Network, Check: "connections to the extension server stand", Result: diagnosis.NotReached},
			{Stage: diagnosis.Identity, Check: "the extension server may ask who is allowed what", Result: diagnosis.NotSeen},
			{Stage: diagnosis.Cluster, Check: "nobody suffers", Result: diagnosis.Found, Codes: []diagnosis.Code{"ANX801"}},
		},
		Findings: []diagnosis.Finding{
			{
				Code: "ANX201", Name: "MissingEndpoints", Title: "No Pod of the extension server is ready",
				Severity: diagnosis.Error, Confidence: diagnosis.Certain,
				Evidence: "Pod metrics-server-0 waits: CrashLoopBackOff; its last line is " + evil,
				Remedy: []diagnosis.Action{
					{Does: diagnosis.Looks, Remark: "what it says", Command: "kubectl -n kube-system logs metrics-server-0 --all-containers --tail=50"},
					{Remark: "mend what it says"},
					{Does: diagnosis.Changes, Command: "kubectl -n kube-system rollout restart deployment/metrics-server"},
					{Does: diagnosis.Destroys, Command: "kubectl delete apiservice v1beta1.metrics.k8s.io", Loses: "the API, for every client", OnlyIf: "nobody needs it"},
				},
			},
			{
				Code: "ANX801", Name: "NamespaceStuck", Title: "Namespaces cannot be deleted",
				Severity: diagnosis.Warning, Confidence: diagnosis.Likely, Because: "ANX201", Evidence: "namespace old waits",
				Remedy: []diagnosis.Action{{Does: diagnosis.Looks, Command: "kubectl get namespace old"}},
			},
		},
		Unseen: []diagnosis.Blind{{Check: "the extension server may ask who is allowed what", What: "its rights", Why: "forbidden: " + evil}},
	}
}

func found() outcome {
	return outcome{Server: "10.0.0.1:6443", Reports: []diagnosis.Report{broken()}, Remote: 6, SeemWell: 5}
}

func written(t *testing.T, o *Options, p page) string {
	t.Helper()
	var b bytes.Buffer
	p.w = bufio.NewWriter(&b)
	o.program = "annex"
	if err := o.text(&p, found()); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestTextOnATerminal(t *testing.T) {
	got := written(t, &Options{}, page{terminal: true, width: 60})
	want := `v1beta1.metrics.k8s.io
  √ registration and Service
  × endpoints and Pods: ANX201 No Pod of the extension
    server is ready
  - network: not reached
  ? identity and trust: could not be seen
  ‼ cluster, and who suffers: ANX801 Namespaces cannot be
    deleted

  × ANX201 No Pod of the extension server is ready (certain)
    Pod metrics-server-0 waits: CrashLoopBackOff; its last
    line is �[2Jgone� <b>bold</b> �back
    look first; this changes nothing:
      # what it says
      kubectl -n kube-system logs metrics-server-0 --all-containers --tail=50
    then mend:
      # mend what it says
      kubectl -n kube-system rollout restart deployment/metrics-server
    ! This takes away the API, for every client. Do it only
      if nobody needs it.
      kubectl delete apiservice v1beta1.metrics.k8s.io
    annex doctor --explain ANX201

  ‼ ANX801 Namespaces cannot be deleted (likely, follows
    from ANX201)
    namespace old waits

  ? 1 thing could not be seen:
      its rights: forbidden: �[2Jgone� <b>bold</b> �back

1 APIService is at fault, 0 well.
5 others seem well.
To look closely at all of them:
  annex doctor --all
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestTextIsWordsWhereItIsPiped(t *testing.T) {
	got := written(t, &Options{Verbose: true}, page{})
	for _, want := range []string{
		"\n  ok   registration and Service\n    ok   the APIService exists\n", "\n  FAIL endpoints and Pods: ANX201 No Pod", "\n  WARN cluster, and who suffers: ",
		"\n  FAIL ANX201 No Pod of the extension server is ready (certain)\n", "\n       look; this changes nothing:\n         kubectl get namespace old\n",
		"\n       ! This takes away the API, for every client. Do it only if nobody needs it.\n         kubectl delete apiservice",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
	if strings.ContainsFunc(got, func(r rune) bool { return strings.ContainsRune("√×‼", r) }) {
		t.Errorf("there are signs in\n%s", got)
	}
}

// Every width down to 40 columns holds but for commands, which stay whole to be copied; and nothing
// that a cluster says reaches the terminal as an escape code.
func TestTextKeepsToTheWidth(t *testing.T) {
	for columns := 1; columns < 130; columns++ {
		width := widthFor(columns)
		got := written(t, &Options{Verbose: true}, page{terminal: true, colour: true, width: width})
		for line := range strings.Lines(got) {
			line = strings.TrimSuffix(line, "\n")
			if columnsOf(line) > width && !strings.Contains(line, "kubectl") {
				t.Fatalf("%d columns: %q is wider", width, line)
			}
			plain := line
			for _, own := range []string{terminal.Green, terminal.Red, terminal.Cyan, yellow, "\x1b[1m", "\x1b[2m", "\x1b[0m"} {
				plain = strings.ReplaceAll(plain, own, "")
			}
			if strings.ContainsFunc(plain, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Fatalf("%q is not printable", line)
			}
		}
	}
}

func TestLongWordsAreBroken(t *testing.T) {
	var b bytes.Buffer
	p := page{w: bufio.NewWriter(&b), terminal: true, width: 40}
	p.wrap("  ", "  ", "ab "+strings.Repeat("日", 50)+" cd")
	if err := p.flush(); err != nil {
		t.Fatal(err)
	}
	if strings.Count(b.String(), "日") != 50 || !strings.HasSuffix(b.String(), " cd\n") {
		t.Errorf("got\n%s", &b)
	}
	for line := range strings.Lines(b.String()) {
		if terminal.Width(strings.TrimSuffix(line, "\n")) > 40 {
			t.Errorf("%q is wider", line)
		}
	}
}

func TestSummaries(t *testing.T) {
	for want, found := range map[string]outcome{
		"No APIService leads to an extension server: there is nothing to look at.\n":          {},
		"3 APIServices seem well.\nTo look closely at all of them:\n  annex doctor --all\n":   {Remote: 3, SeemWell: 3},
		"3 more are not available, and not looked at: name them, or look at --all.\n":         {LeftOut: 3, Remote: 53, Reports: []diagnosis.Report{broken()}},
		"0 APIServices are at fault, 1 well.\n":                                               {Remote: 1, Reports: []diagnosis.Report{{APIService: "v1.x"}}},
		"The cluster could not be asked, so that only the files were looked at: no way\n":     {Offline: "no way", Reports: []diagnosis.Report{{APIService: "v1.x"}}},
		"v1.apps\n  ok   The API server itself answers for it.\n\n0 APIServices are at fault": {Reports: []diagnosis.Report{{APIService: "v1.apps", Local: true}}},
	} {
		var b bytes.Buffer
		if err := (&Options{program: "annex"}).text(&page{w: bufio.NewWriter(&b)}, found); err != nil || !strings.Contains(b.String(), want) {
			t.Errorf("%q is not in\n%s (%v)", want, &b, err)
		}
	}
}

func TestJUnit(t *testing.T) {
	report := broken()
	// They are made printable before, and must neither break the document nor reach a terminal if not.
	report.Findings[0].Evidence = evil + "\u009b2J\u202e\x9b31m]]>"
	report.Findings[0].Remedy[0].Remark = evil
	report.Unseen[0].Why += "\u009b2J"
	report.APIService += "\u009b2J"
	var b bytes.Buffer
	if err := writeJUnit(&b, outcome{Reports: []diagnosis.Report{report}}); err != nil {
		t.Fatal(err)
	}
	if i := strings.IndexFunc(b.String(), func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }); i >= 0 {
		t.Errorf("it has %.20q", b.String()[i:])
	}
	var got junit
	if err := xml.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatalf("%v in\n%s", err, &b)
	}
	if got.Tests != 6 || got.Failures != 2 || got.Skipped != 2 || len(got.Suites) != 1 || len(got.Suites[0].Cases) != 6 {
		t.Errorf("got\n%s", &b)
	}
	c := got.Suites[0].Cases[2]
	if c.Failure != nil && (strings.Contains(c.Failure.Text, "\nkubectl delete") || !strings.Contains(c.Failure.Text, "# This takes away the API, for every client. Do it only if nobody needs it.\n# kubectl delete")) {
		t.Errorf("what destroys is not apart in\n%s", c.Failure.Text)
	}
	if c.Failure == nil || c.Failure.Message != "ANX201 No Pod of the extension server is ready" || !strings.Contains(c.Failure.Text, "kubectl -n kube-system logs") {
		t.Errorf("got %+v", c)
	}
	if c = got.Suites[0].Cases[4]; c.Skipped == nil || !strings.Contains(c.Skipped.Message, "its rights: forbidden") {
		t.Errorf("got %+v", c)
	}
}

func TestWhatIsPossibleFailsNothing(t *testing.T) {
	report := broken()
	for i := range report.Findings {
		report.Findings[i].Confidence, report.Findings[i].Because = diagnosis.Possible, ""
	}
	found := outcome{Reports: []diagnosis.Report{report}, Remote: 1}
	if err := found.verdict(); err != nil {
		t.Errorf("the verdict is %v", err)
	}
	var b bytes.Buffer
	if err := (&Options{program: "annex"}).text(&page{w: bufio.NewWriter(&b)}, found); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"\n  ?    ANX201 No Pod of the extension server is ready (possible, among others)\n", "\n0 APIServices are at fault, 1 may be, 0 well.\n"} {
		if !strings.Contains(b.String(), want) || strings.Contains(b.String(), "FAIL") {
			t.Errorf("%q is not in\n%s", want, &b)
		}
	}
	b.Reset()
	if err := writeJUnit(&b, found); err != nil {
		t.Fatal(err)
	}
	var got junit
	if err := xml.Unmarshal(b.Bytes(), &got); err != nil || got.Failures != 0 || !strings.Contains(got.Suites[0].Cases[2].Out, "ANX201") {
		t.Errorf("%v in\n%s", err, &b)
	}
}

func TestNames(t *testing.T) {
	for text, want := range map[string]string{
		"v1.example.com": "v1.example.com",
		"example.com/v1": "v1.example.com",
		"apiservice.apiregistration.k8s.io/v1.example.com": "v1.example.com",
		"": "", "v1/": "", "a b": "", "v1.example.com\x1b": "", "../secrets": "", strings.Repeat("a", 300): "",
	} {
		got, err := apiServiceName(text)
		if got != want || (err != nil) != (want == "") {
			t.Errorf("%q: got %q, %v", text, got, err)
		}
		if err != nil && strings.ContainsFunc(err.Error(), unicode.IsControl) {
			t.Errorf("%q: the error is not printable: %q", text, err)
		}
	}
}
