package observe

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/annex-api/annex/aggregator/internal/backend/balance"
	"github.com/annex-api/annex/aggregator/internal/catalog"
)

func TestStandingKeepsItsBegin(t *testing.T) {
	down := catalog.Verdict{Status: apiregistrationv1.ConditionFalse, Reason: "FailedDiscoveryCheck", Message: "refused"}
	other := down
	other.Message = "timed out"
	missing := catalog.Verdict{Status: apiregistrationv1.ConditionFalse, Reason: "MissingEndpoints"}
	var standing Standing
	for i, c := range []struct {
		at            time.Duration
		verdict       catalog.Verdict
		endpoint      balance.State
		state, judged time.Duration // since when
	}{
		{0, catalog.Verdict{}, balance.Healthy, 0, 0},
		{1 * time.Second, up, balance.Healthy, 1 * time.Second, 1 * time.Second},
		{9 * time.Second, up, balance.Healthy, 1 * time.Second, 1 * time.Second},
		{10 * time.Second, up, balance.Ejected, 10 * time.Second, 1 * time.Second},
		{11 * time.Second, up, balance.Unreachable, 11 * time.Second, 1 * time.Second}, // for another reason
		{20 * time.Second, down, balance.Unreachable, 20 * time.Second, 20 * time.Second},
		{21 * time.Second, other, balance.Unreachable, 20 * time.Second, 20 * time.Second}, // only the message is another
		{22 * time.Second, missing, balance.Unreachable, 22 * time.Second, 22 * time.Second},
		{30 * time.Second, up, balance.Healthy, 30 * time.Second, 30 * time.Second},
	} {
		s := subject()
		s.Verdict, s.Endpoints[0].State = c.verdict, c.endpoint
		at := now.Add(c.at)
		standing = standing.Next(at, s, Assess(at, s))
		if got := standing.State.Since.Sub(now); got != c.state {
			t.Errorf("step %d: the state is since %v, want %v", i, got, c.state)
		}
		if got := standing.Verdict.Since.Sub(now); got != c.judged {
			t.Errorf("step %d: the verdict is since %v, want %v", i, got, c.judged)
		}
	}
}

// What the stored condition says already did not begin when this server started.
func TestAStartIsNoChange(t *testing.T) {
	hour := ago(time.Hour)
	for what, c := range map[string]struct {
		stored     apiregistrationv1.APIServiceCondition
		endpoint   balance.State
		state, own time.Time
	}{
		"the same":            {apiregistrationv1.APIServiceCondition{Status: "True", Reason: "Passed", LastTransitionTime: metav1.NewTime(hour)}, balance.Healthy, hour, hour},
		"with something else": {apiregistrationv1.APIServiceCondition{Status: "True", Reason: "Passed", LastTransitionTime: metav1.NewTime(hour)}, balance.Ejected, now, hour},
		"another status":      {apiregistrationv1.APIServiceCondition{Status: "False", Reason: "Passed", LastTransitionTime: metav1.NewTime(hour)}, balance.Healthy, now, now},
		"another reason":      {apiregistrationv1.APIServiceCondition{Status: "True", Reason: "Local", LastTransitionTime: metav1.NewTime(hour)}, balance.Healthy, now, now},
		"no time":             {apiregistrationv1.APIServiceCondition{Status: "True", Reason: "Passed"}, balance.Healthy, now, now},
		"a time to come":      {apiregistrationv1.APIServiceCondition{Status: "True", Reason: "Passed", LastTransitionTime: metav1.NewTime(now.Add(time.Hour))}, balance.Healthy, now, now},
	} {
		s := subject()
		c.stored.Type = apiregistrationv1.Available
		s.Object.Status.Conditions = []apiregistrationv1.APIServiceCondition{c.stored}
		s.Endpoints[0].State = c.endpoint
		waiting := *s.APIService
		waiting.Verdict = catalog.Verdict{}
		unjudged := &Subject{APIService: &waiting}
		started := Standing{}.Next(ago(time.Second), unjudged, Assess(now, unjudged)) // before the first probe has ended
		for _, before := range []Standing{{}, started} {
			got := before.Next(now, s, Assess(now, s))
			if !got.State.Since.Equal(c.state) || !got.Verdict.Since.Equal(c.own) {
				t.Errorf("%s: since %v and %v, want %v and %v", what, got.State.Since, got.Verdict.Since, c.state, c.own)
			}
		}
	}
}
