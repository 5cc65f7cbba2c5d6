package catalog

import (
	"testing"

	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
)

func TestWhatTheConditionSaysBesidesTheVerdict(t *testing.T) {
	const (
		passed  = "all checks passed"
		warning = "the resource list of /apis/a.example/v1 names the version v1alpha3"
		refused = "watches with sendInitialEvents are refused: the extension server does not end their initial events"
	)
	up, down := apiregistrationv1.ConditionTrue, apiregistrationv1.ConditionFalse
	for _, c := range []struct {
		status  Status
		warning string
		support WatchListSupport
		policy  WatchListPolicy
		want    string
	}{
		{up, "", WatchListUnknown, WatchListAuto, passed},
		{up, "", WatchListWorks, WatchListAuto, passed},
		{up, "", WatchListRefused, WatchListAuto, passed},
		{up, "", WatchListMissing, WatchListAuto, passed + "; " + refused},
		{up, "", WatchListMissing, WatchListPass, passed},
		{up, "", WatchListMissing, WatchListRefuse, passed}, // its owner knows
		{up, warning, WatchListUnknown, WatchListAuto, passed + "; " + warning},
		{up, warning, WatchListMissing, WatchListAuto, passed + "; " + warning + "; " + refused},
		{down, warning, WatchListMissing, WatchListAuto, passed},
		{"", warning, WatchListMissing, WatchListAuto, passed},
	} {
		a := &APIService{Verdict: Verdict{Status: c.status, Message: passed}, WatchList: c.support}
		a.Settings.WatchList, a.Document.Warning = c.policy, c.warning
		if got := a.Condition(); got.Message != c.want || got.Status != c.status {
			t.Errorf("%+v: %+v", c, got)
		}
	}
	local := &APIService{Verdict: Verdict{Status: up, Message: "Local"}, WatchList: WatchListMissing}
	local.Local = true
	if got := local.Condition(); got != local.Verdict {
		t.Errorf("%+v", got)
	}
}
