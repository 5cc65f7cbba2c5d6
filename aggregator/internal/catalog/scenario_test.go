package catalog

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
)

// TestScenarios tells facts and shows what becomes of them. The commands:
//
//	host [addressing=endpoints] [self=host:port] [reserved=(group,...)] [resolver] [services=none]
//	apiservice <name> [service=ns/name[:port]] [priority=group,version] [group= version=] [ca=] [insecure] [delete]
//	service ns/name [type=] [ip=] [external=] [ports=(name:port,...)] [families=(IPv4,...)] [error=(...)] [slices-error=(...)] [delete]
//	slice ns/name [family=IPv6] [ports=(name:port,...)], then an address and ready, unready or unsaid on each line,
//	  and perhaps [zone=] [node=] [pod=[ns/]name], or external= for what is no Pod
//	verdict <name> status= reason= [message=(...)]
//	document <name> [resources=(...)] [stale] [problem=(...)]
//	show [name ...]     verdict, target and document of APIServices, in order
//	groups              the groups in order, each with its versions in order
//	route               who answers each path in the input
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		s := newScenario()
		datadriven.RunTest(t, path, s.run)
	})
}

type scenario struct{ facts Facts }

func newScenario() *scenario {
	return &scenario{Facts{
		Registrations: map[string]Registration{},
		Services:      map[types.NamespacedName]ServiceFacts{},
		Verdicts:      map[string]Verdict{},
		Documents:     map[string]Document{},
	}}
}

// args are a command's, by key.
type args map[string][]string

func (a args) one(key, otherwise string) string {
	if v, ok := a[key]; ok && len(v) > 0 {
		return v[0]
	}
	return otherwise
}

func (a args) has(key string) bool { _, ok := a[key]; return ok }

func (s *scenario) run(t *testing.T, d *datadriven.TestData) string {
	a := args{}
	var names []string
	for _, arg := range d.CmdArgs {
		a[arg.Key] = arg.Vals
		names = append(names, arg.Key)
	}
	subject := ""
	if len(names) > 0 {
		subject = names[0]
	}
	switch d.Cmd {
	case "host":
		s.host(a)
	case "apiservice":
		return s.apiService(t, subject, a)
	case "service":
		s.service(t, subject, a)
	case "slice":
		s.slice(t, subject, a, d.Input)
	case "verdict":
		s.facts.Verdicts[subject] = Verdict{Status(a.one("status", "True")), a.one("reason", ""), strings.Join(a["message"], ", ")}
	case "document":
		s.document(subject, a)
	case "show":
		return s.show(names)
	case "groups":
		return s.groups()
	case "route":
		return s.route(d.Input)
	default:
		d.Fatalf(t, "unknown command %q", d.Cmd)
	}
	return ""
}

func (s *scenario) host(a args) {
	if a.has("addressing") {
		s.facts.Addressing = map[string]Addressing{"endpoints": EndpointAddresses, "cluster-ip": ClusterIP}[a.one("addressing", "")]
	}
	s.facts.Self = a.one("self", s.facts.Self)
	if a.has("reserved") {
		s.facts.ReservedGroups = a["reserved"]
	}
	s.facts.Resolver = s.facts.Resolver || a.has("resolver")
	if a.one("services", "") == "none" {
		s.facts.Services = nil
	}
}

func (s *scenario) apiService(t *testing.T, name string, a args) string {
	if a.has("delete") {
		delete(s.facts.Registrations, name)
		return ""
	}
	version, group, _ := strings.Cut(name, ".")
	o := &apiregistrationv1.APIService{ObjectMeta: metav1.ObjectMeta{Name: name}}
	o.Spec.Group, o.Spec.Version = a.one("group", group), a.one("version", version)
	o.Spec.GroupPriorityMinimum, o.Spec.VersionPriority = 1000, 10
	if p := strings.Split(a.one("priority", ""), ","); len(p) == 2 {
		o.Spec.GroupPriorityMinimum, o.Spec.VersionPriority = number(t, p[0]), number(t, p[1])
	}
	if ref := a.one("service", ""); ref != "" {
		ref, port, hasPort := strings.Cut(ref, ":")
		namespace, service, _ := strings.Cut(ref, "/")
		o.Spec.Service = &apiregistrationv1.ServiceReference{Namespace: namespace, Name: service}
		if hasPort {
			o.Spec.Service.Port = new(number(t, port))
		}
	}
	o.Spec.CABundle, o.Spec.InsecureSkipTLSVerify = []byte(a.one("ca", "")), a.has("insecure")
	r := NewRegistration(o)
	s.facts.Registrations[name] = r
	if r.Invalid != "" {
		return "invalid: " + r.Invalid
	}
	return ""
}

func (s *scenario) service(t *testing.T, ref string, a args) {
	key := keyOf(ref)
	if a.has("delete") {
		delete(s.facts.Services, key)
		return
	}
	o := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}
	o.Spec.Type = corev1.ServiceType(a.one("type", "ClusterIP"))
	o.Spec.ClusterIP, o.Spec.ExternalName = a.one("ip", "10.0.0.1"), a.one("external", "")
	for _, p := range a["ports"] {
		name, port, _ := strings.Cut(p, ":")
		o.Spec.Ports = append(o.Spec.Ports, corev1.ServicePort{Name: name, Port: number(t, port)})
	}
	for _, f := range a["families"] {
		o.Spec.IPFamilies = append(o.Spec.IPFamilies, corev1.IPFamily(f))
	}
	facts := ServiceFacts{Service: o, Slices: s.facts.Services[key].Slices}
	if a.has("error") {
		facts = ServiceFacts{Err: errors.New(strings.Join(a["error"], ", "))}
	}
	if a.has("slices-error") {
		facts.SlicesErr = errors.New(strings.Join(a["slices-error"], ", "))
	}
	s.facts.Services[key] = facts
}

func (s *scenario) slice(t *testing.T, ref string, a args, input string) {
	es := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: keyOf(ref).Namespace}, AddressType: discoveryv1.AddressType(a.one("family", "IPv4"))}
	for _, p := range a["ports"] {
		name, port, _ := strings.Cut(p, ":")
		es.Ports = append(es.Ports, discoveryv1.EndpointPort{Name: &name, Port: new(number(t, port))})
	}
	for line := range strings.Lines(input) {
		words := strings.Fields(line)
		ep := discoveryv1.Endpoint{}
		for strings.Contains(words[len(words)-1], "=") {
			locate(&ep, words[len(words)-1])
			words = words[:len(words)-1]
		}
		ep.Addresses = words[:len(words)-1]
		switch words[len(words)-1] {
		case "ready":
			ep.Conditions.Ready = new(true)
		case "unready":
			ep.Conditions.Ready = new(false)
		case "unsaid":
		default:
			t.Fatalf("%s: %q is not ready, unready or unsaid", ref, line)
		}
		es.Endpoints = append(es.Endpoints, ep)
	}
	facts := s.facts.Services[keyOf(ref)]
	facts.Slices = append(facts.Slices, es)
	s.facts.Services[keyOf(ref)] = facts
}

// locate reads one word that says where an endpoint is.
func locate(ep *discoveryv1.Endpoint, word string) {
	switch key, value, _ := strings.Cut(word, "="); key {
	case "zone":
		ep.Zone = &value
	case "node":
		ep.NodeName = &value
	case "pod":
		namespace, pod, found := strings.Cut(value, "/")
		if !found {
			namespace, pod = "", value
		}
		ep.TargetRef = &corev1.ObjectReference{Kind: "Pod", Namespace: namespace, Name: pod}
	case "external":
		ep.TargetRef = &corev1.ObjectReference{Kind: "VirtualMachine", Name: value}
	}
}

func (s *scenario) document(name string, a args) {
	d := Document{Stale: a.has("stale"), Problem: strings.Join(a["problem"], ", ")}
	if a.has("resources") {
		d.Discovery = &apidiscoveryv2.APIVersionDiscovery{}
		for _, r := range a["resources"] {
			d.Discovery.Resources = append(d.Discovery.Resources, apidiscoveryv2.APIResourceDiscovery{Resource: r})
		}
	}
	s.facts.Documents[name] = d
}

func (s *scenario) show(names []string) string {
	var out strings.Builder
	for _, a := range Build(s.facts).APIServices() {
		if len(names) > 0 && !slices.Contains(names, a.Name) {
			continue
		}
		fmt.Fprintf(&out, "%s: %s\n", a.Name, verdictText(a))
		switch {
		case a.Local || a.Invalid != "":
			continue
		case a.Target.Resolver:
			out.WriteString("  asks the resolver\n")
		case a.Target.Unresolved != "":
			fmt.Fprintf(&out, "  unresolved: %s\n", a.Target.Unresolved)
		default:
			for _, e := range a.Target.Endpoints {
				fmt.Fprintf(&out, "  -> %s%s\n", e.Address, whereabouts(e))
			}
		}
		if d := a.Document.Discovery; d != nil {
			var resources []string
			for _, r := range d.Resources {
				resources = append(resources, r.Resource)
			}
			fmt.Fprintf(&out, "  offers %s, stale %v\n", strings.Join(resources, " "), a.Document.Stale)
		}
	}
	return out.String()
}

// whereabouts is what is known of where an endpoint is.
func whereabouts(e Endpoint) (text string) {
	for _, known := range []struct{ what, is string }{{"zone", e.Zone}, {"node", e.Node}, {"Pod", e.Pod}} {
		if known.is != "" {
			text += fmt.Sprintf(", %s %s", known.what, known.is)
		}
	}
	return text
}

func verdictText(a *APIService) string {
	if a.Verdict == (Verdict{}) {
		return "no verdict yet, requests pass"
	}
	text := fmt.Sprintf("%s %s %q", a.Verdict.Status, a.Verdict.Reason, a.Verdict.Message)
	if a.Routable() != (a.Verdict.Status == apiregistrationv1.ConditionTrue) {
		text += " (routable disagrees)"
	}
	return text
}

func (s *scenario) groups() string {
	var out strings.Builder
	snapshot := Build(s.facts)
	for _, g := range snapshot.Groups() {
		out.WriteString(g.Name + ":")
		for _, a := range g.Versions {
			out.WriteString(" " + a.Version)
		}
		if snapshot.Group(g.Name) != g {
			out.WriteString(" (not found by name)")
		}
		out.WriteByte('\n')
	}
	return out.String()
}

func (s *scenario) route(input string) string {
	var out strings.Builder
	snapshot := Build(s.facts)
	for line := range strings.Lines(input) {
		path := strings.TrimSpace(line)
		fmt.Fprintf(&out, "%s: %s\n", path, routeText(snapshot.Route(path)))
	}
	return out.String()
}

func routeText(r Route) string {
	switch r.Kind {
	case Local:
		return "local"
	case Index:
		return "index"
	case GroupList:
		return "group list"
	case GroupVersions:
		return "versions of " + r.Group.Name
	case Remote:
		return "extension server of " + r.APIService.Name
	case OpenAPIV2:
		return "OpenAPI v2"
	case OpenAPIV3:
		return "OpenAPI v3"
	}
	return fmt.Sprintf("kind %d", r.Kind)
}

func keyOf(ref string) types.NamespacedName {
	namespace, name, _ := strings.Cut(ref, "/")
	return types.NamespacedName{Namespace: namespace, Name: name}
}

func number(t *testing.T, s string) int32 {
	t.Helper()
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil {
		t.Fatalf("%q is not a number: %v", s, err)
	}
	return int32(n)
}
