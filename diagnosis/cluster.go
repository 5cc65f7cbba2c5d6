package diagnosis

import (
	"fmt"
	"slices"
	"strings"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/annex-api/annex/apis/aggregation/v1alpha1"
)

func checkViews(l *look) {
	views := l.a.Views.Value
	if r := l.remote(); len(views) == 0 && r != nil {
		views = r.Views
	}
	// A server that does not know yet, such as one that has just started, contradicts nobody.
	views = slices.DeleteFunc(slices.Clone(views), func(v v1alpha1.View) bool {
		return v.Available != metav1.ConditionTrue && v.Available != metav1.ConditionFalse
	})
	for _, v := range views {
		if v.Available != views[0].Available {
			x := l.fields
			cut := v
			if views[0].Available != metav1.ConditionTrue {
				cut = views[0]
			}
			x.Server = cut.Server
			l.found(ServersDisagree, Certain, x, "API server %s says %s, and %s says %s (%s)", views[0].Server, string(views[0].Available), v.Server, string(v.Available), cut.Reason)
			return
		}
	}
	// The condition's message says so where there is no more to see.
	if m := l.available().Message; strings.Contains(m, "(seen by ") && strings.Contains(m, "unavailable to ") {
		x := l.fields
		_, rest, _ := strings.Cut(m, "unavailable to ")
		x.Server, _, _ = strings.Cut(rest, ": ")
		l.found(ServersDisagree, Certain, x, "the condition says: %s", m)
	}
}

// An APIService flaps from so many outages on, if there were so many in an hour.
const (
	flaps       = 3
	flapsAnHour = 1.0
)

func checkFlaps(l *look) {
	o, ok := l.a.Outages.Get()
	if !ok {
		return // few may read metrics, and nothing depends on it
	}
	total, most, why := int64(0), int64(0), ""
	for reason, n := range o.ByReason {
		if total += n; n > most || n == most && reason < why {
			most, why = n, reason
		}
	}
	if o.Over > 0 && total > flaps && float64(total)/o.Over.Hours() > flapsAnHour {
		l.found(AvailabilityFlaps, Certain, l.fields, "it became unavailable %d times in %s, mostly for %s", total, o.Over.Round(time.Minute), why)
	}
}

// maxSkew is by how much clocks may differ.
const maxSkew = 2 * time.Minute

func checkClock(l *look) {
	skew := l.f.Cluster.ClockSkew.Value
	if skew.Abs() <= maxSkew {
		return
	}
	word := "ahead of"
	if skew < 0 {
		word = "behind"
	}
	l.found(ClockSkew, Certain, l.fields, "the API server's clock is %s %s this machine's; certificates are judged by the API server's", skew.Abs(), word)
}

// checkRemoteFaults adds what Annex itself knows, and no check here has found.
func checkRemoteFaults(l *look) {
	r := l.remote()
	if r == nil {
		return
	}
	for _, f := range r.Faults {
		code, ok := CodeOf(f.Reason)
		if known, byCode := Lookup(f.Code); !ok && byCode {
			code, ok = known.Code, true
		}
		if !ok || code == WatchListMissing && l.refusesWatchLists() || code == FailedDiscoveryCheck && l.failing() && len(l.findings) > 0 {
			continue
		}
		if !l.has(code) {
			l.found(code, Certain, l.fields, "Annex says: %s", f.Message)
		}
	}
}

// checkAffected tells who suffers.
func checkAffected(l *look) {
	if l.object == nil || l.object.Spec.Service == nil {
		return
	}
	l.stuckNamespaces()
	down := l.failing() || slices.ContainsFunc(l.findings, func(f Finding) bool { return faults().byCode[f.Code].Fatal && f.Confidence != Possible })
	if down {
		l.blindAutoscalers()
		l.found(DiscoveryIncomplete, Certain, l.fields, "discovery of %s/%s fails or is stale%s", l.fields.Group, l.fields.Version, l.discoverers())
	}
	switch r := l.remote(); {
	case r != nil && r.Affected != nil && len(r.Affected.Controllers) > 0:
		l.found(ControllersHeldUp, Certain, l.fields, "held up are: %s", list(r.Affected.Controllers))
	case r == nil && l.has(WatchListMissing):
		l.found(ControllersHeldUp, Likely, l.fields, "the garbage collector and the resource quota controller watch every resource, and wait for those of %s/%s", l.fields.Group, l.fields.Version)
	}
}

func (l *look) stuckNamespaces() {
	all, ok := need(l, "namespaces in deletion", l.f.Cluster.TerminatingNamespaces)
	var stuck []string
	certain := false
	for i := range all {
		hit, sure := l.holdsUp(&all[i])
		if hit {
			stuck = append(stuck, all[i].Name)
			certain = certain || sure
		}
	}
	if r := l.remote(); !ok && r != nil && r.Affected != nil && r.Affected.NamespaceCount > 0 {
		stuck, certain = r.Affected.Namespaces, true
	}
	if len(stuck) == 0 {
		return
	}
	x := l.fields
	x.StuckNamespace = stuck[0]
	c := Likely
	if certain {
		c = Certain
	}
	l.found(NamespacesStuck, c, x, "%s cannot be deleted: %s", plural(len(stuck), "namespace"), list(stuck))
}

// holdsUp says whether a namespace's deletion waits for this APIService, and whether its conditions
// name it.
func (l *look) holdsUp(ns *corev1.Namespace) (hit, sure bool) {
	for _, c := range ns.Status.Conditions {
		if c.Status != corev1.ConditionTrue {
			continue
		}
		names := Mentions(c.Message, l.object.Spec.Group+"/"+l.object.Spec.Version) || Mentions(c.Message, l.name)
		switch c.Type {
		case corev1.NamespaceDeletionDiscoveryFailure:
			// Where the message names nobody, whoever is down is the reason.
			if hit, sure = names || l.failing() && !strings.Contains(c.Message, "/v"), names; hit {
				return hit, sure
			}
		case corev1.NamespaceDeletionContentFailure:
			if names {
				return true, true
			}
		}
	}
	return false, false
}

// metricsGroups are the groups that autoscalers read, and the kinds of metrics that are in them.
var metricsGroups = map[string][]autoscalingv2.MetricSourceType{
	"metrics.k8s.io":          {autoscalingv2.ResourceMetricSourceType, autoscalingv2.ContainerResourceMetricSourceType},
	"custom.metrics.k8s.io":   {autoscalingv2.PodsMetricSourceType, autoscalingv2.ObjectMetricSourceType},
	"external.metrics.k8s.io": {autoscalingv2.ExternalMetricSourceType},
}

func (l *look) blindAutoscalers() {
	kinds := metricsGroups[l.object.Spec.Group]
	if kinds == nil {
		return
	}
	var blind []string
	if r := l.remote(); r != nil && r.Affected != nil && !l.f.Cluster.Autoscalers.Seen {
		blind = r.Affected.Autoscalers
	} else {
		all, _ := need(l, "HorizontalPodAutoscalers", l.f.Cluster.Autoscalers)
		for _, a := range all {
			if slices.ContainsFunc(a.Spec.Metrics, func(m autoscalingv2.MetricSpec) bool { return slices.Contains(kinds, m.Type) }) {
				blind = append(blind, a.Namespace+"/"+a.Name)
			}
		}
	}
	if len(blind) > 0 {
		l.found(AutoscalersBlind, Certain, l.fields, "%s read from it: %s", plural(len(blind), "HorizontalPodAutoscaler"), list(blind))
	}
}

// discoverers are the tools of this cluster that ask for all APIs.
func (l *look) discoverers() string {
	known := map[string]string{
		"argoproj.io": "Argo", "helm.toolkit.fluxcd.io": "Flux", "kustomize.toolkit.fluxcd.io": "Flux", "fleet.cattle.io": "Fleet",
		"velero.io": "Velero", "crossplane.io": "Crossplane", "pkg.crossplane.io": "Crossplane", "kappctrl.k14s.io": "kapp-controller",
	}
	var tools []string
	for _, c := range l.f.Cluster.CustomResources.Value {
		if tool := known[c.Group]; tool != "" && !slices.Contains(tools, tool) {
			tools = append(tools, tool)
		}
	}
	slices.Sort(tools)
	if len(tools) == 0 {
		return "; Helm and whoever asks for all APIs is told so"
	}
	return fmt.Sprintf("; in this cluster %s asks for all APIs, and so does Helm", strings.Join(tools, ", "))
}
