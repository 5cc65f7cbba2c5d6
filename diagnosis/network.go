package diagnosis

import (
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// checkNetwork is about failures whose text names the cause.
func checkNetwork(l *look) {
	x := l.fields
	if f, ok := l.tells(proxied); ok {
		l.found(ProxyInTheWay, Certain, x, "%s says: %s", f.from, f.text)
		return
	}
	if f, ok := l.tells(noAgent); ok {
		l.found(NoKonnectivityAgent, Certain, x, "%s says: %s%s", f.from, f.text, l.agents())
		return
	}
	if f, ok := l.tells(notAllowed); ok {
		l.found(AddressNotAllowed, Certain, x, "%s says: %s", f.from, f.text)
		return
	}
	if f, ok := l.tells(notResolved); ok {
		l.found(HostNotResolved, Certain, x, "%s says: %s", f.from, f.text)
		return
	}
	if f, ok := l.tells(netUnreachable); ok {
		l.found(NoWayToPodNetwork, Certain, x, "%s says: %s%s", f.from, f.text, l.missingOnControlPlane())
		return
	}
	if f, ok := l.tells(noRoute); ok {
		l.found(NoRouteToHost, Certain, x, "%s says: %s", f.from, f.text)
		return
	}
	if f, ok := l.tells(refused); ok {
		if x.Outside != "" {
			l.found(ConnectionRefused, Certain, x, "Service %s leads out of the cluster, to %s; %s says: %s", x.Namespace+"/"+x.Service, x.Outside, f.from, f.text)
			return
		}
		_, have := l.containerPortNames()
		x.OtherPort = l.likelyPort()
		ports := ""
		if len(have) > 0 {
			ports = "; the Pods name " + list(have)
		}
		l.found(ConnectionRefused, Certain, x, "Service %s leads to the Pods' port %s%s; %s says: %s", x.Namespace+"/"+x.Service, x.filled().TargetPort, ports, f.from, f.text)
		return
	}
	if f, ok := l.tells(reset); ok {
		l.found(ConnectionReset, Likely, x, "%s says: %s%s", f.from, f.text, l.mesh())
	}
}

// agents tells how many konnectivity agents are ready.
func (l *look) agents() string {
	for _, d := range l.f.Cluster.DaemonSets.Value {
		if strings.Contains(d.Name, "konnectivity") {
			return "; of " + plural(int(d.Desired), "agent") + " " + itoa(d.Ready) + " are ready"
		}
	}
	return ""
}

// mesh tells of sidecars of a service mesh.
func (l *look) mesh() string {
	for _, spec := range l.podSpecs() {
		for _, c := range slices.Concat(spec.InitContainers, spec.Containers) {
			if sidecar(c.Name) {
				return "; the Pods have the sidecar " + c.Name
			}
		}
	}
	return ""
}

// missingOnControlPlane tells what of the network does not run beside the API server.
func (l *look) missingOnControlPlane() string {
	var parts []string
	for _, d := range l.f.Cluster.DaemonSets.Value {
		for _, n := range l.f.Cluster.Nodes.Value {
			if n.ControlPlane && slices.Contains(d.NotReadyOn, n.Name) {
				parts = append(parts, d.Name+" does not run on "+n.Name)
			}
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return "; " + list(parts)
}

// checkTimeout: nothing but what else is known tells why there was no answer.
func checkTimeout(l *look) {
	f, ok := l.tells(timedOut)
	if !ok {
		return
	}
	x := l.fields
	good, bad := l.byProxy()
	if s := l.frozen(); s.why != "" {
		at := x
		at.Pod = s.pod
		l.found(SlowDiscovery, s.sure, at, "endpoint %s takes connections and does not answer: %s", s.address, s.why)
		if s.sure != Possible {
			return
		}
	}
	if p := l.proxyOfAPIServer(); p != "" {
		l.found(ProxyInTheWay, Likely, x, "kube-apiserver runs with %s, which does not leave out the range of Services; %s says: %s", p, f.from, f.text)
		return
	}
	if name := l.blockingPolicy(); name != "" {
		x.Policy = name
		l.found(NetworkPolicyBlocks, l.sureOfNetwork(), x, "NetworkPolicy %s selects the Pods and lets no address outside the cluster's Pods to port %s; %s says: %s", name, x.filled().TargetPort, f.from, f.text)
		return
	}
	if on := l.sameNode(good, bad); on != "" {
		l.found(CrossNodeTrafficLost, Likely, x, "the API server reaches the endpoint on its own node %s, and none of %s elsewhere%s", on, plural(len(bad), "endpoint"), l.kernels())
		return
	}
	if gone := l.missingOnControlPlane(); gone != "" && l.routesByClusterIP() {
		l.found(NoWayToPodNetwork, Likely, x, "%s says: %s%s", f.from, f.text, gone)
		return
	}
	if l.clusterIPDead() && l.routesByClusterIP() {
		l.found(NoWayToPodNetwork, Likely, x, "a Pod of its namespace reaches the endpoints, and not the Service's cluster IP: %s; %s says: %s",
			l.a.ServiceFromPod.Value.Failure, f.from, f.text)
		return
	}
	for _, w := range l.a.Workloads.Value {
		if len(w.EarlierPorts) > 0 {
			x.OtherPort = itoa(w.EarlierPorts[len(w.EarlierPorts)-1])
			l.found(PortChanged, Likely, x, "%s listened on port %s before, and the Service leads to %s now; %s says: %s", w.Kind+" "+w.Name, x.OtherPort, x.filled().TargetPort, f.from, f.text)
			return
		}
	}
	alive := l.answersElsewhere()
	switch {
	case x.Provider != "" && alive != "":
		l.found(ControlPlaneBlocked, Certain, x, "the extension server answers %s, and the control plane of %s does not reach port %s: %s", alive, x.Provider, x.filled().TargetPort, f.text)
	case x.Provider != "":
		l.found(ControlPlaneBlocked, Likely, x, "the control plane of %s gets no answer from port %s: %s", x.Provider, x.filled().TargetPort, f.text)
	case alive != "":
		l.found(ControlPlaneBlocked, Likely, x, "the extension server answers %s, and the API server does not reach port %s: %s", alive, x.filled().TargetPort, f.text)
	case !l.hasCall():
		// Nobody tried the endpoints: the fault stays nameless, see checkCondition.
		what := "endpoints by port-forward"
		if x.Outside != "" {
			what = x.Outside + " from here, which --direct asks"
		}
		l.blind(what, firstWhy(l.a.Endpoints.Why(), ErrNotAsked))
	default:
		l.found(ControlPlaneBlocked, Possible, x, "%s says: %s", f.from, f.text)
	}
}

func firstWhy(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func slow(text string) bool {
	s, ok := tell(text)
	return ok && s == timedOut
}

// byProxy are the ready endpoints that the API server's proxy reaches, and those that it does not.
func (l *look) byProxy() (good, bad []Endpoint) {
	for _, e := range l.a.Endpoints.Value {
		if a, ok := e.Proxied.Get(); !ok || !e.Ready {
			continue
		} else if a.Failure == "" {
			good = append(good, e)
		} else {
			bad = append(bad, e)
		}
	}
	return good, bad
}

// silence is an endpoint that takes connections and says nothing on them.
type silence struct {
	address, pod string
	// why is what was seen of it; empty if there is none.
	why  string
	sure Confidence
}

// frozen is the endpoint whose silence is surest. That one handshook and then said nothing was seen. Where
// the handshake does not come, it may be the way: a kubelet or an API server may be slow, too, unless
// the kubelet has given the Pod's log meanwhile, and what two ways show is no fault of one.
func (l *look) frozen() silence {
	var worst silence
	for _, e := range l.a.Endpoints.Value {
		byKubelet := Possible
		if p := l.podOf(e.Address); p != nil && p.Logs.Seen && len(p.Logs.Value) > 0 {
			byKubelet = Likely
		}
		silent := 0
		see := func(c Confidence, how, why string) {
			if silent++; silent > 1 {
				c = Certain
			}
			if worst.why == "" || surer(c, worst.sure) {
				worst = silence{e.Address, e.Pod, how + ", " + why, c}
			}
		}
		for _, way := range []struct {
			how  string
			sure Confidence
			a    Attempt
		}{{"by port-forward", byKubelet, e.Forwarded.Value}, {"from here", Likely, e.Direct.Value}, {"from a Pod of its namespace", Likely, e.ProbePod.Value}} {
			switch g := way.a.GroupVersion; {
			case way.a.Failure != "":
				// A connection that does not stand may be the fault of the way from here. What the kubelet
				// says of the Pod's own network is none of that.
				if way.how == "by port-forward" && slow(way.a.Failure) {
					see(way.sure, way.how, way.a.Failure)
				}
			case slow(way.a.TLSFailure):
				see(way.sure, way.how, way.a.TLSFailure)
			case way.a.TLSFailure == "" && g != nil && slow(g.Failure):
				see(Certain, way.how, g.Failure)
			}
		}
	}
	return worst
}

// answersElsewhere says by which other way than the API server's an endpoint answered; empty if by
// none.
func (l *look) answersElsewhere() string {
	for _, e := range l.a.Endpoints.Value {
		switch {
		case answered(e.Forwarded):
			return "on its own node"
		case answered(e.Direct):
			return "when it is asked directly"
		case answered(e.ProbePod):
			return "to a Pod of its namespace"
		}
	}
	return ""
}

// clusterIPDead says that a Pod reaches an endpoint, and gets no connection by the Service.
func (l *look) clusterIPDead() bool {
	reached := slices.ContainsFunc(l.a.Endpoints.Value, func(e Endpoint) bool { return e.Ready && answered(e.ProbePod) })
	return reached && l.a.ServiceFromPod.Seen && l.a.ServiceFromPod.Value.Failure != ""
}

func answered(k Known[Attempt]) bool {
	a := k.Value
	return k.Seen && a.Failure == "" && a.TLSFailure == "" && (len(a.Chain) > 0 || a.GroupVersion != nil && a.GroupVersion.Code > 0)
}

// hasCall says that some endpoint was tried by some way.
func (l *look) hasCall() bool {
	return slices.ContainsFunc(l.a.Endpoints.Value, func(e Endpoint) bool {
		return e.Forwarded.Seen || e.Proxied.Seen || e.ProbePod.Seen || e.Direct.Seen
	})
}

// sureOfNetwork: a server that answers on its node and not to the API server has its fault between.
func (l *look) sureOfNetwork() Confidence {
	if l.answersElsewhere() != "" {
		return Certain
	}
	return Likely
}

// routesByClusterIP says that the API server does not send to Pods directly, as far as it is known.
func (l *look) routesByClusterIP() bool {
	for _, p := range l.f.Cluster.APIServerPods.Value {
		if p.Flags["enable-aggregator-routing"] == "true" {
			return false
		}
	}
	return !l.f.Cluster.Annex.Value
}

// proxyOfAPIServer is the setting of an HTTP proxy that takes requests for Services; empty if
// there is none.
func (l *look) proxyOfAPIServer() string {
	if l.f.Cluster.Annex.Value {
		return ""
	}
	for _, p := range l.f.Cluster.APIServerPods.Value {
		proxy := p.Proxy["HTTPS_PROXY"]
		if proxy == "" {
			continue
		}
		left := strings.Split(p.Proxy["NO_PROXY"], ",")
		covered := func(want string) bool {
			return slices.ContainsFunc(left, func(s string) bool { s = strings.TrimSpace(s); return s == "*" || s == want })
		}
		for _, cidr := range l.f.Cluster.ServiceCIDRs.Value {
			if !covered(cidr) && !covered(".svc") {
				return "HTTPS_PROXY"
			}
		}
	}
	return ""
}

// sameNode is the API server's own node if endpoints are reached there and nowhere else.
func (l *look) sameNode(good, bad []Endpoint) string {
	if len(good) == 0 || len(bad) == 0 {
		return ""
	}
	for _, p := range l.f.Cluster.APIServerPods.Value {
		on := func(e Endpoint) bool { return e.Node == p.Node }
		if p.Node != "" && !slices.ContainsFunc(bad, on) && !slices.ContainsFunc(good, func(e Endpoint) bool { return !on(e) }) {
			return p.Node
		}
	}
	return ""
}

func (l *look) kernels() string {
	var all []string
	for _, n := range l.f.Cluster.Nodes.Value {
		if n.Kernel != "" && !slices.Contains(all, n.Kernel) {
			all = append(all, n.Kernel)
		}
	}
	if len(all) == 0 {
		return ""
	}
	return "; kernels are " + list(all)
}

// blockingPolicy is a NetworkPolicy that selects the Pods for ingress, if none that does lets
// everybody to the target port. Who is let in by selectors of Pods or namespaces is no API server.
func (l *look) blockingPolicy() string {
	name := ""
	for _, policy := range l.a.NetworkPolicies.Value {
		if !selectsIngress(policy) || !l.selects(policy.Spec.PodSelector) {
			continue
		}
		for _, rule := range policy.Spec.Ingress {
			if l.letsIn(rule) {
				return ""
			}
		}
		if name == "" {
			name = policy.Name
		}
	}
	return name
}

func selectsIngress(p networkingv1.NetworkPolicy) bool {
	return len(p.Spec.PolicyTypes) == 0 || slices.Contains(p.Spec.PolicyTypes, networkingv1.PolicyTypeIngress)
}

func (l *look) selects(s metav1.LabelSelector) bool {
	selector, err := metav1.LabelSelectorAsSelector(&s)
	if err != nil {
		return false
	}
	for i := range l.a.Pods.Value {
		if p := &l.a.Pods.Value[i].Object; !p.Spec.HostNetwork && selector.Matches(labels.Set(p.Labels)) {
			return true
		}
	}
	return false
}

// letsIn says whether a rule may let an API server to the target port. Address ranges count as if
// they did: whether its address is among them is not known here.
func (l *look) letsIn(rule networkingv1.NetworkPolicyIngressRule) bool {
	if len(rule.From) > 0 && !slices.ContainsFunc(rule.From, func(p networkingv1.NetworkPolicyPeer) bool { return p.IPBlock != nil }) {
		return false
	}
	if len(rule.Ports) == 0 {
		return true
	}
	target := l.targetPort()
	return slices.ContainsFunc(rule.Ports, func(p networkingv1.NetworkPolicyPort) bool {
		switch {
		case p.Port == nil || target == 0 || p.Port.StrVal != "":
			return true
		case p.EndPort != nil:
			return p.Port.IntVal <= target && target <= *p.EndPort
		}
		return p.Port.IntVal == target
	})
}
