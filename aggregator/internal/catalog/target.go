package catalog

import (
	"fmt"
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
	case len(readyEndpoints(sf.Slices, port.Name, "")) == 0:
		return t, failed("MissingEndpoints", "endpointslices for service/%s in %q have no addresses with port name %q", ref.Name, ref.Namespace, port.Name)
	}
	return t, t.verdict()
}

// verdict of a target that leads nowhere.
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
	case s.Spec.Type == corev1.ServiceTypeExternalName && f.Addressing == ClusterIP:
		return one(hostPort(s.Spec.ExternalName, ref.Port))
	case s.Spec.Type != corev1.ServiceTypeClusterIP && s.Spec.Type != corev1.ServiceTypeNodePort && s.Spec.Type != corev1.ServiceTypeLoadBalancer:
		return Target{Unresolved: fmt.Sprintf("unsupported service type %q", s.Spec.Type)}
	case f.Addressing == ClusterIP && s.Spec.Type == corev1.ServiceTypeClusterIP && s.Spec.ClusterIP == corev1.ClusterIPNone:
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
		eps = readyEndpoints(es, port.Name, discoveryv1.AddressType(s.Spec.IPFamilies[0]))
	}
	if len(eps) == 0 {
		eps = readyEndpoints(es, port.Name, "")
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

// readyEndpoints lists the endpoints that are ready, or do not say, on the
// port of that name; of one address type where family is not empty.
func readyEndpoints(es []*discoveryv1.EndpointSlice, portName string, family discoveryv1.AddressType) []Endpoint {
	var out []Endpoint
	for _, slice := range es {
		if family != "" && slice.AddressType != family {
			continue
		}
		for _, p := range slice.Ports {
			if p.Name == nil || *p.Name != portName || p.Port == nil {
				continue
			}
			for _, ep := range slice.Endpoints {
				if (ep.Conditions.Ready == nil || *ep.Conditions.Ready) && len(ep.Addresses) > 0 {
					out = append(out, Endpoint{Address: hostPort(ep.Addresses[0], *p.Port)})
				}
			}
		}
	}
	slices.SortFunc(out, func(a, b Endpoint) int { return strings.Compare(a.Address, b.Address) })
	return slices.Compact(out)
}
