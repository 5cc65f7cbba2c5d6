package observe

import (
	"time"

	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"k8s.io/kube-aggregator/pkg/apis/apiregistration/v1/helper"
)

// Period is something that has been so since a time.
type Period struct {
	Is    string
	Since time.Time
}

// then is the period in which it is so: this one, or one that began at a time.
func (p Period) then(is string, began time.Time) Period {
	if p.Is == is && !p.Since.IsZero() {
		return p
	}
	return Period{is, began}
}

// Standing is since when an APIService has its state with its reason, and its verdict.
type Standing struct{ State, Verdict Period }

// unjudged is the verdict that is none.
const unjudged = "/"

// Next is how a subject stands now. A verdict that is the first here, and the same as the
// stored condition, has been so for longer: a server that starts does not make it new.
func (before Standing) Next(now time.Time, s *Subject, a Assessment) Standing {
	began := now
	if before.Verdict.Is == "" || before.Verdict.Is == unjudged {
		began = conditionSince(s, now)
	}
	verdict := before.Verdict.then(string(s.Verdict.Status)+"/"+s.Verdict.Reason, began)
	if len(a.Faults) > 0 && a.Faults[0].Reason != s.Verdict.Reason {
		began = now
	}
	return Standing{State: before.State.then(string(a.State)+"/"+a.Reason, began), Verdict: verdict}
}

// conditionSince is since when the stored condition says what the verdict does; now where
// it says something else.
func conditionSince(s *Subject, now time.Time) time.Time {
	if s.Object == nil {
		return now
	}
	stored := helper.GetAPIServiceConditionByType(s.Object, apiregistrationv1.Available)
	if stored == nil || stored.Status != s.Verdict.Status || stored.Reason != s.Verdict.Reason ||
		stored.LastTransitionTime.IsZero() || stored.LastTransitionTime.After(now) {
		return now
	}
	return stored.LastTransitionTime.Time
}
