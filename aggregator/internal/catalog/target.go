package catalog

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
)

// Endpoint is one address of an extension server.
type Endpoint struct {
	// Address is host:port.
	Address string
	// OtherZone endpoints are meant for clients in other zones than this server's.
	OtherZone bool
	// Terminating endpoints still serve, but not for long.
	Terminating bool
	// Fallback is the Service's own address, for when no endpoint can be
	// reached from here.
	Fallback bool
	// Zone, Node and Pod say where it is, for reports: Pod is namespace/name. They are
	// empty where its EndpointSlice does not say.
	Zone, Node, Pod string
}

// Target is where a registration's requests go.
type Target struct {
	// Endpoints is sorted by address.
	Endpoints []Endpoint
	// Resolver is true when an embedder's resolver is to be asked instead.
	Resolver bool
	// Unresolved says why there are no endpoints.
	Unresolved string
}

// resolve finds the target of a registration, and what its Service alone says
// of its availability: a zero Verdict when that is nothing.
func (f *Facts) resolve(r Registration) (Target, Verdict) {
	ref := r.Service
	if len(r.Settings.Endpoints) > 0 && !f.Resolver {
		t := Target{}
		for _, address := range r.Settings.Endpoints {
			t.Endpoints = append(t.Endpoints, Endpoint{Address: address})
		}
		return t, Verdict{}
	}
	if f.Services == nil {
		return f.target(ref, nil, nil), Verdict{}
	}
	sf := f.Services[ref.Key()]
	switch {
	case sf.Err != nil:
		return Target{Unresolved: sf.Err.Error()}, Verdict{
			apiregistrationv1.ConditionUnknown, "ServiceAccessError",
			fmt.Sprintf("service/%s in %q cannot be checked due to: %v", ref.Name, ref.Namespace, sf.Err),
		}
	case sf.Service == nil:
		t := f.target(ref, nil, nil)
		if t.Unresolved == "" && !t.Resolver && len(t.Endpoints) == 0 {
			t.Unresolved = fmt.Sprintf("service %q not found", ref.Name)
		}
		return t, failed("ServiceNotFound", "service/%s in %q is not present", ref.Name, ref.Namespace)
	}
	t := f.target(ref, sf.Service, sf.Slices)
	if r.Settings.IgnoreZones {
		for i := range t.Endpoints {
			t.Endpoints[i].OtherZone = false
		}
	}
	if sf.Service.Spec.Type != corev1.ServiceTypeClusterIP {
		return t, t.verdict()
	}
	port, ok := servicePort(sf.Service, ref.Port)
	switch {
	case !ok:
		return t, failed("ServicePortError", "service/%s in %q is not listening on port %d", ref.Name, ref.Namespace, ref.Port)
	case sf.SlicesErr != nil:
		return t, Verdict{
			apiregistrationv1.ConditionUnknown, "EndpointsAccessError",
			fmt.Sprintf("service/%s in %q cannot be checked due to: %v", ref.Name, ref.Namespace, sf.SlicesErr),
		}
	case len(sf.Slices) == 0:
		return t, failed("EndpointsNotFound", "cannot find endpointslices for service/%s in %q", ref.Name, ref.Namespace)
	case len(f.serving(sf.Slices, port.Name, "")) == 0:
		return t, failed("MissingEndpoints", "endpointslices for service/%s in %q have no addresses with port name %q", ref.Name, ref.Namespace, port.Name)
	}
	return t, t.verdict()
}

// verdict is that of a target without endpoints; zero where there are some.
func (t Target) verdict() Verdict {
	if t.Unresolved == "" {
		return Verdict{}
	}
	return failed("FailedDiscoveryCheck", "%s", t.Unresolved)
}

func failed(reason, format string, args ...any) Verdict {
	return Verdict{apiregistrationv1.ConditionFalse, reason, fmt.Sprintf(format, args...)}
}

func (f *Facts) target(ref ServiceRef, s *corev1.Service, es []*discoveryv1.EndpointSlice) Target {
	switch {
	case f.Resolver:
		return Target{Resolver: true}
	case f.Self != "" && ref == ServiceRef{Namespace: "default", Name: "kubernetes", Port: 443}:
		return Target{Endpoints: []Endpoint{{Address: f.Self}}}
	case s == nil:
		return Target{}
	case s.Spec.Type == corev1.ServiceTypeExternalName && f.Addressing != EndpointAddresses:
		return one(hostPort(s.Spec.ExternalName, ref.Port))
	case s.Spec.Type != corev1.ServiceTypeClusterIP && s.Spec.Type != corev1.ServiceTypeNodePort && s.Spec.Type != corev1.ServiceTypeLoadBalancer:
		return Target{Unresolved: fmt.Sprintf("unsupported service type %q", s.Spec.Type)}
	}
	headless := s.Spec.ClusterIP == corev1.ClusterIPNone
	if headless && f.Addressing == ClusterIP {
		return Target{Unresolved: `cannot route to service with ClusterIP "None"`}
	}
	port, ok := servicePort(s, ref.Port)
	if !ok {
		return Target{Unresolved: fmt.Sprintf("no service port %d found for service %q", ref.Port, s.Name)}
	}
	if f.Addressing == ClusterIP {
		return one(hostPort(s.Spec.ClusterIP, port.Port))
	}
	var eps []Endpoint
	if len(s.Spec.IPFamilies) > 0 {
		eps = f.serving(es, port.Name, discoveryv1.AddressType(s.Spec.IPFamilies[0]))
	}
	if len(eps) == 0 {
		eps = f.serving(es, port.Name, "")
	}
	if f.Addressing == WhatWorks && !headless && s.Spec.ClusterIP != "" {
		eps = append(eps, Endpoint{Address: hostPort(s.Spec.ClusterIP, port.Port), Fallback: true})
	}
	if len(eps) == 0 {
		return Target{Unresolved: fmt.Sprintf("no endpoints available for service %q", ref.Name)}
	}
	return Target{Endpoints: eps}
}

func one(address string) Target { return Target{Endpoints: []Endpoint{{Address: address}}} }

func servicePort(s *corev1.Service, port int32) (corev1.ServicePort, bool) {
	for _, p := range s.Spec.Ports {
		if p.Port == port {
			return p, true
		}
	}
	return corev1.ServicePort{}, false
}

// serving lists the endpoints on the port of that name: those that are ready, or do
// not say, and those that still serve while they terminate. Where family is not
// empty, only of that address type.
func (f *Facts) serving(es []*discoveryv1.EndpointSlice, portName string, family discoveryv1.AddressType) []Endpoint {
	byAddress := map[string]Endpoint{}
	for _, slice := range es {
		if family != "" && slice.AddressType != family {
			continue
		}
		for _, p := range slice.Ports {
			if p.Name == nil || *p.Name != portName || p.Port == nil {
				continue
			}
			for _, ep := range slice.Endpoints {
				if len(ep.Addresses) == 0 {
					continue
				}
				e := Endpoint{Address: hostPort(ep.Addresses[0], *p.Port), OtherZone: f.otherZone(ep.Hints)}
				if ep.Conditions.Ready != nil && !*ep.Conditions.Ready {
					if !isTrue(ep.Conditions.Serving) || !isTrue(ep.Conditions.Terminating) {
						continue
					}
					e.Terminating = true
				}
				e.locate(slice.Namespace, ep)
				// An address may be in two slices for a moment: the more favourable one counts.
				if known, ok := byAddress[e.Address]; ok {
					e.merge(known)
				}
				byAddress[e.Address] = e
			}
		}
	}
	return slices.SortedFunc(maps.Values(byAddress), func(a, b Endpoint) int { return strings.Compare(a.Address, b.Address) })
}

// locate sets what an EndpointSlice says of where an endpoint is.
func (e *Endpoint) locate(namespace string, says discoveryv1.Endpoint) {
	if says.Zone != nil {
		e.Zone = *says.Zone
	}
	if says.NodeName != nil {
		e.Node = *says.NodeName
	}
	if ref := says.TargetRef; ref != nil && ref.Kind == "Pod" {
		e.Pod = cmp.Or(ref.Namespace, namespace) + "/" + ref.Name
	}
}

// merge adds what another slice says of the same address. Whatever their order, the
// result is the same.
func (e *Endpoint) merge(other Endpoint) {
	e.OtherZone, e.Terminating = e.OtherZone && other.OtherZone, e.Terminating && other.Terminating
	if cmp.Or(strings.Compare(other.Pod, e.Pod), strings.Compare(other.Node, e.Node), strings.Compare(other.Zone, e.Zone)) > 0 {
		e.Zone, e.Node, e.Pod = other.Zone, other.Node, other.Pod
	}
}

func isTrue(b *bool) bool { return b != nil && *b }

// otherZone says whether hints mean an endpoint for zones other than this server's.
func (f *Facts) otherZone(hints *discoveryv1.EndpointHints) bool {
	if f.Zone == "" || hints == nil || len(hints.ForZones) == 0 {
		return false
	}
	return !slices.ContainsFunc(hints.ForZones, func(z discoveryv1.ForZone) bool { return z.Name == f.Zone })
}
