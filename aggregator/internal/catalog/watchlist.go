package catalog

import apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

// WatchListSupport is whether an extension server ends the initial events of a
// watch that asks for them (sendInitialEvents) with the bookmark that clients
// wait for.
type WatchListSupport string

// What is known of an extension server's watches.
const (
	// WatchListUnknown is everything that is not known for sure.
	WatchListUnknown WatchListSupport = ""
	// WatchListWorks: the bookmark came.
	WatchListWorks WatchListSupport = "Works"
	// WatchListMissing: the watch was taken, and the bookmark did not come. A
	// client that waits for it waits for ever.
	WatchListMissing WatchListSupport = "Missing"
	// WatchListRefused: the server refuses such a watch, and clients list instead.
	WatchListRefused WatchListSupport = "Refused"
)

// WatchListPolicy says what becomes of watches whose clients wait for the end of
// their initial events.
type WatchListPolicy string

const (
	// WatchListAuto refuses them where the extension server is known not to end them.
	WatchListAuto WatchListPolicy = ""
	// WatchListPass passes them on.
	WatchListPass WatchListPolicy = "pass"
	// WatchListRefuse refuses them.
	WatchListRefuse WatchListPolicy = "refuse"
)

// RefusesWatchList says whether watches that ask for initial events and the bookmark
// that ends them are refused, so that their clients list instead.
func (a *APIService) RefusesWatchList() bool {
	return a.Settings.WatchList == WatchListRefuse ||
		a.Settings.WatchList == WatchListAuto && a.WatchList == WatchListMissing
}

// Condition is the verdict as the Available condition has it: with what its readers
// should know though it makes nothing unavailable.
func (a *APIService) Condition() Verdict {
	v := a.Verdict
	if v.Status != apiregistrationv1.ConditionTrue || a.Local {
		return v
	}
	if a.Document.Warning != "" {
		v.Message += "; " + a.Document.Warning
	}
	if a.Settings.WatchList == WatchListAuto && a.WatchList == WatchListMissing {
		v.Message += "; watches with sendInitialEvents are refused: the extension server does not end their initial events"
	}
	return v
}
