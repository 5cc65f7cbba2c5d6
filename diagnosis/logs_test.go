package diagnosis

import (
	"slices"
	"testing"
	"time"
)

// A line of a log tells of the trouble that is there, by when it was written.
func TestHowSureALineOfALogMakes(t *testing.T) {
	const line = "x509: cannot validate certificate for 10.0.0.4: no IP SANs"
	wrongBundle := func(s *scene) { s.object().Spec.CABundle = []byte("no PEM") }
	for _, c := range []struct {
		name string
		ago  time.Duration
		also func(*scene)
		want Confidence // empty if nothing is to be found
	}{
		{"just now", 0, nil, Certain},
		{"since the trouble began", 50 * time.Minute, nil, Likely},
		{"before the trouble", 2 * time.Hour, nil, ""},
		{"nobody knows when", undated, nil, Likely},
		{"by a clock that is a day ahead", -24 * time.Hour, nil, Likely},
		{"just now, beside another fault", 0, wrongBundle, Certain},
		{"since the trouble began, beside another fault", 50 * time.Minute, wrongBundle, ""},
		{"nobody knows when, beside another fault", undated, wrongBundle, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := healthy()
			s.fails("failing")
			s.condition("False", "FailedDiscoveryCheck", "failing") // for an hour
			s.logged(c.ago, line)
			if c.also != nil {
				c.also(s)
			}
			r := Diagnose(s.Facts, s.name)
			i := slices.IndexFunc(r.Findings, func(f Finding) bool { return f.Code == KubeletCertificateNotTrusted })
			switch {
			case i < 0 && c.want != "":
				t.Errorf("not found in\n%s", outline(r))
			case i >= 0 && r.Findings[i].Confidence != c.want:
				t.Errorf("want %q in\n%s", c.want, outline(r))
			}
		})
	}
}

// What a log said is no fault any more once the right was granted, and surely one while it is missing.
func TestRightsDecideWhatALogSays(t *testing.T) {
	for _, c := range []struct {
		allowed Known[bool]
		ago     time.Duration
		want    Confidence
	}{
		{Saw(true), 0, ""},
		{Saw(false), undated, Certain},
		{Unseen[bool](ErrForbidden), undated, Likely},
	} {
		s := healthy()
		s.unready()
		s.logged(c.ago, `failed to list *v1.FlowSchema: flowschemas.flowcontrol.apiserver.k8s.io is forbidden`)
		s.a.Rights[WatchFlowSchemas] = c.allowed
		r := Diagnose(s.Facts, s.name)
		got := Confidence("")
		for _, f := range r.Findings {
			if f.Code == InformerRightsMissing {
				got = f.Confidence
			}
		}
		if got != c.want {
			t.Errorf("allowed %v: got %q, want %q\n%s", c.allowed, got, c.want, outline(r))
		}
	}
}

func TestOnlyWhatIsMoreThanPossibleIsAFault(t *testing.T) {
	for _, c := range []struct {
		severity   Severity
		confidence Confidence
		want       bool
	}{
		{Error, Certain, true},
		{Warning, Likely, true},
		{Error, Possible, false},
		{Info, Certain, false},
	} {
		if got := (Report{Findings: []Finding{{Severity: c.severity, Confidence: c.confidence}}}).AtFault(); got != c.want {
			t.Errorf("%s %s: %v", c.severity, c.confidence, got)
		}
	}
}

// A watch that was cut off says nothing of bookmarks, and that it could not be seen.
func TestAWatchThatWasCutOffIsNotSeen(t *testing.T) {
	s := healthy()
	s.a.WatchList = Saw(WatchList{Resource: "widgets", Answer: Answer{Code: 200, Failure: "it ended after 10ms"}, Waited: 10 * time.Millisecond})
	r := Diagnose(s.Facts, s.name)
	i := slices.IndexFunc(r.Steps, func(s Step) bool { return s.Check == "watches end their initial events" })
	if r.Has(WatchListMissing) || r.Steps[i].Result != NotSeen {
		t.Errorf("the check is %s\n%s", r.Steps[i].Result, outline(r))
	}
}
