package diagnosis

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/annex-api/annex/apis/aggregation/v1alpha1"
	"github.com/annex-api/annex/internal/printable"
)

func checkGroupVersion(l *look) {
	x := l.fields
	answer := l.a.GroupVersion.Value
	missing := l.badStatus() == 404 || l.failing() && answer.Code == 404
	served := ""
	for _, e := range l.a.Endpoints.Value {
		for _, a := range []Attempt{e.Forwarded.Value, e.Proxied.Value, e.Direct.Value, e.ProbePod.Value} {
			if a.GroupVersion != nil && a.GroupVersion.Code == 404 && l.failing() {
				missing = true
			}
			if a.Groups != nil && served == "" {
				served = groupsIn(a.Groups.Body)
			}
		}
	}
	if missing {
		for _, w := range l.f.Cluster.Webhooks.Value {
			if w.Namespace == x.Namespace && w.Service == x.Service {
				l.found(WebhookRegisteredAsAPI, Certain, x, "%s leads to Service %s too (path %q), and the Service answers 404 to GET /apis/%s/%s",
					w.Configuration, x.Namespace+"/"+x.Service, printable.Line(w.Path, maxValue), x.Group, x.Version)
				return
			}
		}
		x.Other = served
		also := ""
		if served != "" {
			also = "; it serves " + served
		}
		l.found(GroupVersionNotServed, Certain, x, "the extension server answers 404 to GET /apis/%s/%s%s", x.Group, x.Version, also)
		return
	}
	resources, ok := l.a.Resources.Get()
	if !ok {
		if !l.failing() {
			need(l, "the resources of the group version", l.a.Resources)
		}
		return
	}
	if answer.Code == 200 && len(resources) == 0 {
		l.found(NoResources, Certain, x, "GET /apis/%s/%s is answered with an empty list", x.Group, x.Version)
	}
}

// groupsIn are the group versions of a group list; empty if it is none, or is cut off.
func groupsIn(body []byte) string {
	var groups metav1.APIGroupList
	if json.Unmarshal(body, &groups) != nil {
		return ""
	}
	var all []string
	for _, g := range groups.Groups {
		for _, v := range g.Versions {
			all = append(all, v.GroupVersion)
		}
	}
	return list(all)
}

// checkResponder: the check fails, and the server itself answers well.
func checkResponder(l *look) {
	if !l.failing() {
		return
	}
	code := l.badStatus()
	for _, e := range l.a.Endpoints.Value {
		for _, a := range []Attempt{e.Forwarded.Value, e.Proxied.Value} {
			g := a.GroupVersion
			if g == nil || g.Code == 0 {
				continue
			}
			x := l.fields
			x.Pod = e.Pod
			switch {
			case strings.HasPrefix(g.ContentType, "text/html"):
				l.found(AnsweredByAnother, Certain, x, "endpoint %s answers %d with %s%s", e.Address, g.Code, g.ContentType, serverOf(g))
				return
			case code >= 500 && (g.Code == 200 || g.Code == 401 || g.Code == 403):
				l.found(AnsweredByAnother, Likely, x, "the API server is answered %d, and endpoint %s answers %d when it is asked itself%s", code, e.Address, g.Code, serverOf(g))
				return
			}
		}
	}
	if code >= 300 && code < 400 {
		l.found(AnsweredByAnother, Certain, l.fields, "the API server's check is answered with a redirect, %d", code)
	} else if a := l.a.GroupVersion.Value; strings.HasPrefix(a.ContentType, "text/html") {
		l.found(AnsweredByAnother, Certain, l.fields, "GET %s is answered %d with %s%s", a.Path, a.Code, a.ContentType, serverOf(&a))
	}
}

func serverOf(a *Answer) string {
	if a.Server == "" {
		return ""
	}
	return ", by server " + printable.Line(a.Server, 100)
}

// slowAnswer is how long the list of resources may take: clients ask for it all the time.
const slowAnswer = 3 * time.Second

func checkSlow(l *look) {
	a := l.a.GroupVersion.Value
	switch {
	case a.Took >= slowAnswer && a.Code > 0 && a.Code < 500:
		c, why := l.whoIsSlow()
		l.foundAs(Warning, SlowDiscovery, c, l.fields, "GET %s took %s%s", a.Path, a.Took.Round(100*time.Millisecond), why)
	case slow(a.Failure):
		c, why := l.whoIsSlow()
		if !l.failing() {
			c = Possible
		}
		l.found(SlowDiscovery, c, l.fields, "GET %s was not answered: %s%s", a.Path, a.Failure, why)
	}
	for _, x := range []Answer{l.a.List.Value, l.a.GroupVersion.Value} {
		if x.Code != 504 {
			continue
		}
		c := Likely
		if x.Status == nil { // a gateway before the API server answers so, too
			c = Possible
		}
		l.found(RequestTimeout, c, l.fields, "GET %s was answered 504 after %s", x.Path, x.Took.Round(time.Second))
		return
	}
	// The same is logged of each client that leaves.
	if h := l.loggedByServer("timeout or abort while handling"); h.text != "" && l.trouble() {
		l.foundInLog(h, RequestTimeout, Possible, l.fields, "the API server cut a request off, or its client left%s", quoted(h.text))
	}
}

// whoIsSlow says how sure it is that the extension server is, and not the API server or the way to it, and
// why.
func (l *look) whoIsSlow() (Confidence, string) {
	for _, e := range l.a.Endpoints.Value {
		for _, way := range []Attempt{e.Forwarded.Value, e.Direct.Value, e.ProbePod.Value} {
			if g := way.GroupVersion; g != nil && (g.Took >= slowAnswer || slow(g.Failure)) {
				return Certain, "; endpoint " + e.Address + " took as long when it was asked itself"
			}
		}
	}
	own, asked := l.a.OwnAnswer.Get()
	switch {
	case !asked || own.Code == 0:
		return Possible, ""
	case own.Took >= slowAnswer/3:
		return Possible, "; the API server took " + own.Took.Round(100*time.Millisecond).String() + " for an answer of its own"
	}
	return Likely, "; the API server's own answers are quick"
}

// checkCondition names the failure that nothing else explains.
func checkCondition(l *look) {
	if l.object == nil || l.object.Spec.Service == nil {
		return
	}
	c := l.available()
	switch {
	case c.Status == "" && l.remote() == nil:
		l.blind("the condition Available", ErrNotAsked)
	case !l.failing() || slices.ContainsFunc(l.findings, func(f Finding) bool {
		return f.Severity == Error && f.Confidence != Possible || f.Code == ServerStarting
	}):
	case c.Reason != "" && c.Status != "True":
		l.found(FailedDiscoveryCheck, Certain, l.fields, "Available is %s (%s): %s", string(c.Status), c.Reason, c.Message)
	default:
		r := l.remote()
		l.found(FailedDiscoveryCheck, Certain, l.fields, "Annex says %s (%s): %s", string(r.State), r.Reason, r.Message)
	}
}

// stale says that discovery of the group version is.
func (l *look) stale() bool {
	if r := l.remote(); r != nil && r.Discovery.Freshness == v1alpha1.Stale {
		return true
	}
	return l.object != nil && slices.ContainsFunc(l.f.Cluster.Discovery.Value, func(g GroupVersionFreshness) bool {
		return g.Stale && g.Group == l.object.Spec.Group && g.Version == l.object.Spec.Version
	})
}

func checkDiscovery(l *look) {
	x, r := l.fields, l.remote()
	if l.stale() {
		why := ""
		if r != nil && r.Discovery.Problem != "" {
			why = ": " + r.Discovery.Problem
		}
		l.found(DiscoveryStale, Certain, x, "the API server serves what it knew of %s/%s%s", x.Group, x.Version, why)
	}
	if r != nil && r.Discovery.Freshness == v1alpha1.NeverFetched && r.Discovery.Problem != "" {
		l.found(DiscoveryFailed, Certain, x, "no list of its resources could be used so far: %s", r.Discovery.Problem)
	}
	if r != nil && r.Discovery.Warning != "" {
		l.found(DiscoveryWarning, Certain, x, "%s", r.Discovery.Warning)
	}
}

func checkLimits(l *look) {
	if r := l.remote(); r != nil && r.Limits.Queued > 0 && r.Limits.InFlight >= r.Limits.MaxInFlight {
		l.found(TooManyRequests, Certain, l.fields, "%d requests are under way, %d may be, and %d wait", r.Limits.InFlight, r.Limits.MaxInFlight, r.Limits.Queued)
	}
	for _, a := range []Answer{l.a.GroupVersion.Value, l.a.List.Value, l.a.Protobuf.Value} {
		if a.Code != 429 {
			continue
		}
		switch {
		case len(a.PriorityLevels) > 1: // the API server's fairness let it pass
			l.found(TooManyRequests, Certain, l.fields, "GET %s was answered 429, by the extension server's own fairness", a.Path)
		case a.Status != nil: // the API server's fairness says it in plain text
			l.found(TooManyRequests, Likely, l.fields, "GET %s was answered 429: %s", a.Path, a.Status.Message)
		default:
			l.found(TooManyRequests, Possible, l.fields, "GET %s was answered 429, as the API server's own fairness answers too", a.Path)
		}
	}
	for _, e := range l.a.Endpoints.Value {
		for _, way := range []Attempt{e.Forwarded.Value, e.Direct.Value, e.ProbePod.Value} {
			if g := way.GroupVersion; g != nil && g.Code == 429 {
				l.found(TooManyRequests, Certain, l.fields, "endpoint %s answers 429 when it is asked itself", e.Address)
			}
		}
	}
}

func checkProtobuf(l *look) {
	p, plain := l.a.Protobuf.Value, l.a.List.Value
	switch {
	case p.Code == 406 || p.Code == 415:
	case p.Code >= 500 && plain.Code == 200:
	default:
		return
	}
	why := ""
	if p.Status != nil {
		why = ": " + p.Status.Message
	}
	l.found(ProtobufRefused, Certain, l.fields, "GET %s is answered %d where protobuf is preferred to JSON, and %d in JSON%s", p.Path, p.Code, plain.Code, why)
}

func checkApply(l *look) {
	if errors.Is(l.a.Apply.Why(), ErrNotAsked) {
		l.unwanted = true
		return
	}
	a, ok := need(l, "a server-side apply", l.a.Apply)
	if !ok {
		return
	}
	if a.Code < 400 || a.Status == nil {
		return
	}
	if m := a.Status.Message; strings.Contains(m, "no kind") && strings.Contains(m, "registered for") {
		l.found(ServerSideApplyFails, Certain, l.fields, "a server-side apply (dry run) is answered %d: %s", a.Code, m)
	}
}

// checkStorage looks for lists that lack what is stored.
func checkStorage(l *look) {
	x := l.fields
	empty, full := -1, int64(0)
	for i, c := range l.a.Counts.Value {
		if c.Objects == 0 {
			empty = i
		}
		full = max(full, c.Objects)
	}
	for _, e := range l.a.Endpoints.Value {
		for _, a := range []Attempt{e.Forwarded.Value, e.Proxied.Value, e.Direct.Value} {
			if a.Readyz == nil || a.Readyz.Code != 500 {
				continue
			}
			for _, check := range []string{"[-]etcd", "[-]storage", "[-]database"} {
				if strings.Contains(string(a.Readyz.Body), check) {
					x.Pod = e.Pod
					l.found(StorageDown, Certain, x, "endpoint %s says of itself that %s fails", e.Address, check[3:])
					return
				}
			}
		}
	}
	if empty >= 0 && full > 0 {
		l.found(StorageDown, Likely, x, "of %d lists of %s in a row, one had %s and one had none", len(l.a.Counts.Value), l.a.Counts.Value[empty].Resource, plural(int(full), "object"))
		return
	}
	if !l.trouble() {
		return
	}
	for _, parts := range [][]string{{"etcdserver:"}, {":2379", "refused"}, {":2379", "timeout"}, {"database", "connection refused"}} {
		if h := l.logged(parts...); h.text != "" {
			x.Pod = h.pod.Object.Name
			l.foundInLog(h, StorageDown, Likely, x, "Pod %s does not reach its storage%s", x.Pod, quoted(h.text))
			return
		}
	}
}
