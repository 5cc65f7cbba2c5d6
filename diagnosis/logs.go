package diagnosis

import (
	"slices"
	"strings"
	"time"

	"github.com/annex-api/annex/apis/aggregation/v1alpha1"
)

// lately is how old a line of a log may be to tell how things are now. A container that keeps failing
// is started again after five minutes at most.
const lately = 10 * time.Minute

// heard is a line that may tell of a fault. Its text is empty if there is none.
type heard struct {
	from, text string
	// pod is whose log it is in; nil if it is in none.
	pod *Pod
	// sure is how sure it can make a finding.
	sure Confidence
}

// logged is the line of the Pods' logs that holds all the parts, in any case, and makes a finding
// surest; of several the latest.
func (l *look) logged(parts ...string) heard {
	return l.loggedLike(func(line string) bool { return containsAll(strings.ToLower(line), parts) })
}

func (l *look) loggedLike(tells func(string) bool) heard {
	var best heard
	var bestAt time.Time
	for i := range l.a.Pods.Value {
		p := &l.a.Pods.Value[i]
		for _, log := range p.Logs.Value {
			for _, line := range log.Lines {
				if !tells(line.Text) {
					continue
				}
				sure, current := l.weight(line.At)
				if current && (best.text == "" || surer(sure, best.sure) || sure == best.sure && !line.At.Before(bestAt)) {
					best, bestAt = heard{"the log", line.Text, p, sure}, line.At
				}
			}
		}
	}
	return best
}

// loggedByServer is the latest line of API servers' logs that holds all the parts, in any case, and is
// new, or of no known age.
func (l *look) loggedByServer(parts ...string) heard {
	for _, line := range slices.Backward(l.a.APIServerLog.Value) {
		if !containsAll(strings.ToLower(line.Text), parts) {
			continue
		}
		switch sure, _ := l.weight(line.At); {
		case sure == Certain:
			return heard{"the API server's log", line.Text, nil, Certain}
		case line.At.IsZero():
			return heard{"the API server's log", line.Text, nil, Possible}
		}
	}
	return heard{}
}

func containsAll(s string, parts []string) bool {
	for _, part := range parts {
		if !strings.Contains(s, part) {
			return false
		}
	}
	return true
}

// weight is how sure a line of a log can make a finding, by when it was written. False is said of one
// from before the trouble, which tells nothing of it.
func (l *look) weight(at time.Time) (Confidence, bool) {
	now := l.now()
	switch age := now.Sub(at); {
	case at.IsZero() || now.IsZero() || age < -maxSkew: // nobody knows how old it is
		return Likely, true
	case age <= lately:
		return Certain, true
	case at.Before(l.troubleSince().Add(-lately)):
		return "", false
	}
	return Likely, true
}

// troubleSince is when what is wrong began, as far as it was seen: now where it was seen only now, the
// zero time where nobody knows.
func (l *look) troubleSince() time.Time {
	since := l.now()
	earlier := func(t time.Time) {
		if t.Before(since) {
			since = t
		}
	}
	if l.failing() {
		if c := l.available(); c.Status != "" && c.Status != "True" {
			earlier(c.LastTransitionTime.Time)
		}
		if r := l.remote(); r != nil && r.State == v1alpha1.Unavailable {
			earlier(r.Since.Time)
		}
	}
	for i := range l.a.Pods.Value {
		p := &l.a.Pods.Value[i].Object
		if ready(p) || p.DeletionTimestamp != nil {
			continue
		}
		if start := p.Status.StartTime; start != nil {
			earlier(start.Time)
		}
	}
	return since
}

// foundInLog notes a fault of which a line tells. A line that is old, or of no known age, makes nothing
// certain, and no more than possible where something else explains the failure for certain. It says
// whether the finding is more than possible.
func (l *look) foundInLog(h heard, code Code, c Confidence, fields Fields, format string, args ...any) bool {
	if surer(c, h.sure) {
		c = h.sure
	}
	if h.sure != Certain && explained(l.findings, code) {
		c = Possible
	}
	l.found(code, c, fields, format, args...)
	return c != Possible
}

// explained says that findings hold what explains a failure for certain, and does not itself follow
// from a fault with that code.
func explained(findings []Finding, but Code) bool {
	t := faults()
	return slices.ContainsFunc(findings, func(f Finding) bool {
		return f.Severity == Error && f.Confidence == Certain && t.byCode[f.Code].Fatal && !slices.Contains(t.byCode[but].Explains, f.Code)
	})
}
