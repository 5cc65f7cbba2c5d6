package diagnosis

import (
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/annex-api/annex/apis/aggregation/v1alpha1"
	"github.com/annex-api/annex/internal/printable"
)

func itoa(n int32) string { return strconv.Itoa(int(n)) }

// startTime is how long a server may take to start without being at fault.
const startTime = time.Minute

// checkStarting: what looks broken may be on its way.
func checkStarting(l *look) {
	if !l.failing() && !l.stale() {
		return
	}
	newest, others := (*Pod)(nil), false
	for i := range l.a.Pods.Value {
		p := &l.a.Pods.Value[i]
		if why := waiting(&p.Object); why != "" && why != "ContainerCreating" && why != "PodInitializing" || restarts(&p.Object) > 0 {
			return
		}
		if l.recent(startOf(&p.Object), startTime) {
			newest = p
		} else {
			others = true
		}
	}
	if newest != nil && !others {
		l.found(ServerStarting, Likely, l.fields, "Pod %s started %s ago, and has not failed so far",
			newest.Object.Name, l.now().Sub(newest.Object.Status.StartTime.Time).Round(time.Second))
	}
}

func startOf(p *corev1.Pod) metav1.Time {
	if p.Status.StartTime == nil {
		return metav1.Time{}
	}
	return *p.Status.StartTime
}

// starts says that a Pod is on its way, and has not failed so far.
func (l *look) starts(p *corev1.Pod) bool {
	return restarts(p) == 0 && l.recent(startOf(p), startTime)
}

func checkEndpoints(l *look) {
	s := l.a.Service.Value
	if s != nil && s.Spec.Type == corev1.ServiceTypeExternalName {
		return
	}
	x, c := l.fields, l.available()
	parts, seen := l.a.EndpointSlices.Get()
	switch {
	case !seen && c.Reason == "EndpointsNotFound":
		l.found(EndpointsNotFound, Certain, x, "the condition says: %s", c.Message)
		return
	case !seen && c.Reason == "MissingEndpoints":
		l.found(MissingEndpoints, Certain, x, "the condition says: %s%s", c.Message, l.podStory())
		return
	case !seen:
		need(l, "EndpointSlices of the Service", l.a.EndpointSlices)
		return
	case s == nil:
		return
	}
	ready, all := 0, 0
	for _, slice := range parts {
		for _, e := range slice.Endpoints {
			all++
			if e.Conditions.Ready == nil || *e.Conditions.Ready {
				ready++
			}
		}
	}
	switch {
	case ready > 0:
		return
	case len(parts) == 0 || all == 0 && len(l.a.Pods.Value) == 0 && l.a.Pods.Seen && !l.scaledToNone():
		if len(s.Spec.Selector) == 0 {
			l.found(EndpointsNotFound, Certain, x, "Service %s has no selector, and no EndpointSlice has an address for it", x.Namespace+"/"+x.Service)
			return
		}
		if len(l.a.Pods.Value) == 0 && !l.scaledToNone() {
			l.found(EndpointsNotFound, Certain, x, "the selector %s of Service %s selects no Pod%s", x.SelectorJSON, x.Namespace+"/"+x.Service, l.podStory())
			return
		}
	}
	x.Scaled = l.scaledToNone()
	l.found(MissingEndpoints, Certain, x, "none of %s behind Service %s is ready%s", plural(max(all, len(l.a.Pods.Value)), "endpoint"), x.Namespace+"/"+x.Service, l.podStory())
}

// scaledToNone says that all that would make Pods is told to make none.
func (l *look) scaledToNone() bool {
	return len(l.a.Workloads.Value) > 0 && !slices.ContainsFunc(l.a.Workloads.Value, func(w Workload) bool { return w.Desired > 0 })
}

// podStory tells what is the matter with the Pods, as the end of a sentence.
func (l *look) podStory() string {
	for _, w := range l.a.Workloads.Value {
		switch kind := w.Kind + " " + w.Name; {
		case w.Problem != "":
			return "; " + kind + ": " + printable.Line(w.Problem, maxValue)
		case l.scaledToNone():
			return "; " + kind + " is scaled to 0"
		}
	}
	p := l.worstPod()
	if p == nil {
		return ""
	}
	return "; " + p.story()
}

// checkTargetPort: a named target port that no container has selects nothing; a number that no
// container names is no proof, since naming is optional.
func checkTargetPort(l *look) {
	s := l.a.Service.Value
	if s == nil || l.servicePort(s) < 0 || len(l.podSpecs()) == 0 || l.available().Status == "True" {
		return
	}
	i := l.servicePort(s)
	x, want := l.fields, s.Spec.Ports[i].TargetPort
	named, have := l.containerPortNames()
	x.OtherPort = l.likelyPort()
	switch {
	case want.StrVal != "" && !slices.Contains(named, want.StrVal):
		l.found(ConnectionRefused, Certain, x, "Service %s leads to the Pods' port called %q, and they have %s", x.Namespace+"/"+x.Service, want.StrVal, list(have))
	case l.a.File && want.StrVal == "" && len(have) > 0 && !slices.ContainsFunc(have, func(p string) bool { return strings.HasPrefix(p+" ", x.TargetPort+" ") }):
		l.found(ConnectionRefused, Possible, x, "Service %s leads to port %s of the Pods, and they name %s", x.Namespace+"/"+x.Service, x.TargetPort, list(have))
	}
}

// containerPortNames are the names of the Pods' ports, and each as "8443 https".
func (l *look) containerPortNames() (names, all []string) {
	for _, spec := range l.podSpecs() {
		for _, p := range containerPorts(spec) {
			if p.Name != "" {
				names = append(names, p.Name)
			}
			if s := strings.TrimSpace(itoa(p.ContainerPort) + " " + p.Name); !slices.Contains(all, s) {
				all = append(all, s)
			}
		}
	}
	return names, all
}

// likelyPort is the Pods' port for HTTPS: the only one, or the one whose name says so, if it is
// not the one that the Service leads to already.
func (l *look) likelyPort() string {
	found := map[int32]bool{}
	for _, spec := range l.podSpecs() {
		ports := containerPorts(spec)
		for _, p := range ports {
			if len(ports) == 1 || strings.Contains(p.Name, "https") || p.Name == "api" || p.Name == "apiserver" || p.Name == "secure-port" {
				found[p.ContainerPort] = true
			}
		}
	}
	if len(found) == 1 && !found[l.targetPort()] {
		for p := range found {
			return itoa(p)
		}
	}
	return ""
}

// checkEachEndpoint is about single replicas while others answer.
func checkEachEndpoint(l *look) {
	if l.failing() {
		return
	}
	at := func(x Fields, address, pod, node string) Fields {
		if p := l.podOf(address); p != nil {
			pod, node = p.Object.Name, p.Object.Spec.NodeName
		}
		if _, name, ok := strings.Cut(pod, "/"); ok {
			pod = name
		}
		x.Pod, x.Node = pod, node
		return x
	}
	if r := l.remote(); r != nil {
		for _, e := range r.Endpoints {
			why := "no failure is kept"
			if e.LastError != nil {
				why = e.LastError.Message
			}
			switch {
			case e.Kind != "endpoint":
			case e.State == v1alpha1.EndpointEjected:
				l.found(EndpointEjected, Certain, at(l.fields, e.Address, e.Pod, e.Node), "endpoint %s gets no requests (%s endpoints do): %s", e.Address, r.EndpointSummary, why)
			case e.State == v1alpha1.EndpointUnreachable:
				l.found(EndpointUnreachable, Certain, at(l.fields, e.Address, e.Pod, e.Node), "endpoint %s does not answer probes (%s endpoints do): %s", e.Address, r.EndpointSummary, why)
			}
		}
	}
	good := slices.ContainsFunc(l.a.Endpoints.Value, func(e Endpoint) bool { return e.Proxied.Seen && e.Proxied.Value.Failure == "" })
	for _, e := range l.a.Endpoints.Value {
		if good && e.Ready && e.Proxied.Value.Failure != "" {
			l.found(EndpointUnreachable, Likely, at(l.fields, e.Address, e.Pod, e.Node), "the API server does not reach endpoint %s, and reaches others: %s", e.Address, e.Proxied.Value.Failure)
		}
	}
}

func checkNodes(l *look) {
	nodes, ok := need(l, "nodes", l.f.Cluster.Nodes)
	if !ok {
		return
	}
	lost := map[string]bool{}
	for _, n := range nodes {
		lost[n.Name] = !n.Ready
	}
	for _, slice := range l.a.EndpointSlices.Value {
		for _, e := range slice.Endpoints {
			if e.NodeName == nil || !lost[*e.NodeName] || e.Conditions.Ready != nil && !*e.Conditions.Ready {
				continue
			}
			x := l.fields
			x.Node = *e.NodeName
			l.found(NodeLost, Certain, x, "endpoint %s counts as ready, and its node %s does not", list(e.Addresses), *e.NodeName)
		}
	}
}
