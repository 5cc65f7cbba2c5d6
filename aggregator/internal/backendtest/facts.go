package backendtest

import (
	"strings"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/annex-api/annex/aggregator/internal/catalog"
)

// APIService claims a group version for the server; name is version.group.
func (s *Server) APIService(name string) *apiregistrationv1.APIService {
	o := &apiregistrationv1.APIService{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("uid-" + name), ResourceVersion: "1"}}
	o.Spec.Version, o.Spec.Group, _ = strings.Cut(name, ".")
	o.Spec.GroupPriorityMinimum, o.Spec.VersionPriority = 1000, 10
	o.Spec.Service = &apiregistrationv1.ServiceReference{Namespace: Namespace, Name: s.Service}
	o.Spec.CABundle = s.CA
	return o
}

// Services are the Services of all servers, each with an EndpointSlice that
// holds the server's address. Servers of the same Service stand side by side.
func Services(servers ...*Server) map[types.NamespacedName]catalog.ServiceFacts {
	all := map[types.NamespacedName]catalog.ServiceFacts{}
	for _, s := range servers {
		key := types.NamespacedName{Namespace: Namespace, Name: s.Service}
		host, port := splitAddress(s.Address)
		facts := all[key]
		facts.Service = &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Name: s.Service},
			Spec: corev1.ServiceSpec{
				Type: corev1.ServiceTypeClusterIP, ClusterIP: corev1.ClusterIPNone,
				Ports: []corev1.ServicePort{{Name: "https", Port: catalog.DefaultPort}},
			},
		}
		facts.Slices = append(facts.Slices, &discoveryv1.EndpointSlice{
			AddressType: discoveryv1.AddressTypeIPv4,
			Ports:       []discoveryv1.EndpointPort{{Name: new("https"), Port: &port}},
			Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{host}}},
		})
		all[key] = facts
	}
	return all
}

// Facts are those of the APIServices and servers, reached by their endpoints.
func Facts(objects []*apiregistrationv1.APIService, servers ...*Server) catalog.Facts {
	f := catalog.Facts{
		Registrations: map[string]catalog.Registration{},
		Services:      Services(servers...),
		Addressing:    catalog.EndpointAddresses,
		Verdicts:      map[string]catalog.Verdict{},
		Documents:     map[string]catalog.Document{},
	}
	for _, o := range objects {
		f.Registrations[o.Name] = catalog.NewRegistration(o)
	}
	return f
}

// Things is what is known of a server whose only resource is things, which can all that
// resources of the usual kind can. It has the subresources status, log and exec.
func Things() catalog.Document {
	all := []string{"create", "delete", "get", "list", "patch", "update", "watch"}
	return catalog.Document{Discovery: &apidiscoveryv2.APIVersionDiscovery{
		Version: "v1",
		Resources: []apidiscoveryv2.APIResourceDiscovery{{
			Resource: "things", Scope: apidiscoveryv2.ScopeNamespace, Verbs: all,
			Subresources: []apidiscoveryv2.APISubresourceDiscovery{
				{Subresource: "status", Verbs: []string{"get", "patch", "update"}},
				{Subresource: "log", Verbs: []string{"get"}},
				{Subresource: "exec", Verbs: []string{"create", "get"}},
			},
		}},
	}}
}

// Snapshot claims the names, each version.group, for one server.
func (s *Server) Snapshot(names ...string) *catalog.Snapshot {
	var objects []*apiregistrationv1.APIService
	for _, name := range names {
		objects = append(objects, s.APIService(name))
	}
	return catalog.Build(Facts(objects, s))
}

// Claim is the APIService of that name, for the server.
func (s *Server) Claim(name string) *catalog.APIService {
	return s.Snapshot(name).APIServices()[0]
}
