package diagnosis

import (
	"crypto/x509"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/annex-api/annex/apis/aggregation/v1alpha1"
	"github.com/annex-api/annex/internal/testcerts"
)

// alarming are lines of logs that would tell of a fault while something is wrong.
var alarming = []string{
	`Unable to authenticate the request: x509: certificate signed by unknown authority`, "dial tcp 10.96.0.1:443: i/o timeout",
	"subjectaccessreviews is forbidden", "etcdserver: request timed out", "x509: cannot validate certificate for 10.0.0.4: no IP SANs",
	`User "front-proxy-client" cannot list`, "subject with cn=x is not in the allowed list", "failed to list *v1.FlowSchema: flowschemas is forbidden",
}

// oddities are clusters in which nothing is wrong, however they look.
func oddities() map[string]func(*scene) {
	ca := testAuthorities()
	hosts := []string{"widgets.shop.svc"}
	return map[string]func(*scene){
		"nothing odd": func(*scene) {},
		"nothing seen": func(s *scene) {
			s.Cluster, *s.a = ClusterFacts{}, APIServiceFacts{Object: s.a.Object}
		},
		"Annex": func(s *scene) { s.annex(func(*v1alpha1.RemoteAPIServiceStatus) {}) },
		"a Pod that is on its way, of a server that needs no rights": func(s *scene) {
			s.a.Pods.Value[1].Object.Status.Conditions = nil
			s.a.Rights = map[Right]Known[bool]{ReadAuthentication: Saw(false), ReviewAccess: Saw(false), ReviewTokens: Saw(false)}
		},
		"OpenAPI that the API server is about to fetch": func(s *scene) {
			s.a.OpenAPIV3 = Saw(Answer{Path: "/openapi/v3/apis/widgets.example.com/v1", Code: 404})
			s.a.Endpoints.Value[0].Forwarded.Value.OpenAPIV2 = &Answer{Code: 200}
		},
		"watches without an end of their initial events, refused by an annotation": func(s *scene) {
			s.annex(func(r *v1alpha1.RemoteAPIServiceStatus) { r.WatchList = "Missing" })
			s.object().Annotations = map[string]string{"aggregation.annex.dev/watch-list": "refuse"}
		},
		"local": func(s *scene) { s.object().Spec.Service = nil },
		"two authorities in the bundle while one is replaced": func(s *scene) {
			s.object().Spec.CABundle = append(append([]byte{}, ca.other.PEM...), ca.own.PEM...)
		},
		"replicas of two authorities, both trusted": func(s *scene) {
			s.object().Spec.CABundle = append(append([]byte{}, ca.other.PEM...), ca.own.PEM...)
			s.a.Endpoints.Value[1].Forwarded.Value.Chain = issue(ca.other, testcerts.Subject{Name: "widgets", Hosts: hosts})
		},
		"the certificate itself in the bundle": func(s *scene) {
			pair := ca.other.Issue(testcerts.Subject{Name: "self", Hosts: hosts})
			s.object().Spec.CABundle = pair.Cert
			s.shows(parse(pair.Cert))
		},
		"a short-lived certificate": func(s *scene) {
			s.shows(issue(ca.own, testcerts.Subject{Name: "widgets", Hosts: hosts, NotBefore: s.Now.Add(-2 * time.Hour), NotAfter: s.Now.Add(2 * time.Hour)}))
		},
		"an old certificate sent along": func(s *scene) {
			leaf := issue(ca.own, testcerts.Subject{Name: "widgets", Hosts: hosts})
			old := issue(ca.other, testcerts.Subject{Name: "old", NotBefore: s.Now.Add(-48 * time.Hour), NotAfter: s.Now.Add(-24 * time.Hour)})
			s.shows(append(leaf, old...))
		},
		"an API server that has just started": func(s *scene) {
			s.a.Views = Saw([]v1alpha1.View{{Server: "10.0.0.1:6443", Available: "True"}, {Server: "10.0.0.2:6443", Available: "Unknown"}})
		},
		"a wildcard name": func(s *scene) { s.shows(issue(ca.own, testcerts.Subject{Name: "w", Hosts: []string{"*.shop.svc"}})) },
		"the system's roots": func(s *scene) {
			s.object().Spec.CABundle = nil
			s.shows(issue(ca.other, testcerts.Subject{Name: "widgets", Hosts: hosts}))
		},
		"not verified, and expired": func(s *scene) {
			s.object().Spec.InsecureSkipTLSVerify, s.object().Spec.CABundle = true, nil
			s.shows(issue(ca.other, testcerts.Subject{Name: "x", NotAfter: s.Now.Add(-time.Minute)}))
		},
		"old errors in the log": func(s *scene) {
			s.logs(alarming...)
		},
		"a caller who may not list, and old errors in the log": func(s *scene) {
			refused := Answer{Path: s.a.List.Value.Path, Code: 403, Status: &metav1.Status{
				Message: `widgets.widgets.example.com is forbidden: User "eve" cannot list resource "widgets" in API group "widgets.example.com" at the cluster scope`,
			}}
			s.a.List, s.a.Protobuf = Saw(refused), Saw(refused)
			s.a.Rights[ReadAuthentication] = Saw(false)
			s.logs(alarming...)
		},
		"a Pod that is on its way, and found its network late": func(s *scene) {
			p := &s.a.Pods.Value[1]
			p.Object.Status.Conditions, p.Object.Status.StartTime = nil, &metav1.Time{Time: s.Now.Add(-20 * time.Second)}
			p.Logs = s.log(0, alarming)
		},
		"errors of an earlier trouble, and a list that fails now": func(s *scene) {
			s.logged(time.Hour, alarming...)
			s.a.List.Value.Code = 500
		},
		"clients that leave": func(s *scene) {
			s.a.APIServerLog = Saw(s.lines(0, `"Timeout or abort while handling" logger="UnhandledError" method="GET" URI="/apis/widgets.example.com/v1/widgets"`))
		},
		"OpenAPI that failed an hour ago": func(s *scene) {
			s.a.APIServerLog = Saw(s.lines(time.Hour, `loading OpenAPI spec for "v1.widgets.example.com" failed with: OpenAPI spec does not exist`))
		},
		"a watch that was cut off": func(s *scene) {
			s.a.WatchList = Saw(WatchList{Resource: "widgets", Answer: Answer{Code: 200, Failure: "it ended after 10ms"}, Waited: 10 * time.Millisecond})
		},
		"a server that asks for no rights": func(s *scene) {
			for _, r := range Rights() {
				s.a.Rights[r] = Saw(false)
			}
		},
		"another path that fails from here": func(s *scene) {
			for i := range s.a.Endpoints.Value {
				s.a.Endpoints.Value[i].Direct = Saw(Attempt{Failure: "dial tcp: i/o timeout"})
				s.a.Endpoints.Value[i].Proxied = Unseen[Attempt](ErrForbidden)
			}
		},
		"a NetworkPolicy with the control plane's addresses": func(s *scene) {
			s.a.NetworkPolicies = Saw([]networkingv1.NetworkPolicy{{Spec: networkingv1.NetworkPolicySpec{Ingress: []networkingv1.NetworkPolicyIngressRule{{
				From: []networkingv1.NetworkPolicyPeer{{IPBlock: &networkingv1.IPBlock{CIDR: "10.0.0.0/24"}}},
			}}}}})
		},
		"a NetworkPolicy that keeps all out, and is not enforced": func(s *scene) {
			s.a.NetworkPolicies = Saw([]networkingv1.NetworkPolicy{{ObjectMeta: metav1.ObjectMeta{Name: "deny"}}})
		},
		"a rolling update": func(s *scene) {
			p := testPod("widgets-0", "10.1.0.9", "one", s.Now)
			p.Object.DeletionTimestamp, p.Object.Status.Conditions = &metav1.Time{Time: s.Now}, nil
			s.a.Pods.Value = append(s.a.Pods.Value, p)
			s.a.EndpointSlices.Value[0].Endpoints = append(s.a.EndpointSlices.Value[0].Endpoints,
				discoveryv1.Endpoint{Addresses: []string{"10.1.0.9"}, Conditions: discoveryv1.EndpointConditions{Ready: new(false)}})
			s.a.Workloads.Value[0].EarlierPorts = []int32{443}
		},
		"one replica that starts": func(s *scene) {
			s.a.Pods.Value[1].Object.Status.Conditions = nil
			s.a.EndpointSlices.Value[0].Endpoints[1].Conditions.Ready = new(false)
			s.a.Endpoints.Value[1].Ready = false
			s.a.Endpoints.Value[1].Proxied = Saw(Attempt{Failure: "connection refused"})
		},
		"a name that leads elsewhere": func(s *scene) {
			s.a.Service.Value.Spec = corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "widgets.example.com"}
			s.a.EndpointSlices, s.a.Pods, s.a.Workloads, s.a.Endpoints = Saw([]discoveryv1.EndpointSlice{}), Saw([]Pod{}), Saw([]Workload{}), Saw([]Endpoint{})
		},
		"endpoints made by hand": func(s *scene) {
			s.a.Service.Value.Spec.Selector = nil
			s.a.Pods, s.a.Workloads = Saw([]Pod{}), Saw([]Workload{})
		},
		"a named target port, and an unnamed container port beside it": func(s *scene) {
			s.servicePort().TargetPort = intstr.FromString("https")
			for i := range s.a.Pods.Value {
				c := &s.a.Pods.Value[i].Object.Spec.Containers[0]
				c.Ports = append(c.Ports, corev1.ContainerPort{ContainerPort: 9090})
			}
		},
		"no resource, as adapters without a metric": func(s *scene) { s.a.Resources, s.a.WatchList = Saw([]metav1.APIResource{}), Known[WatchList]{} },
		"no OpenAPI": func(s *scene) { s.a.OpenAPIV3.Value.Code = 404 },
		"WatchList refused": func(s *scene) {
			s.a.WatchList = Saw(WatchList{Resource: "widgets", Answer: Answer{Code: 422}, Waited: time.Second})
		},
		"one authority for clients and the front proxy": func(s *scene) {
			s.Cluster.RequestHeader.Value.RequestHeaderClientCA = s.Cluster.RequestHeader.Value.ClientCA
			for i := range s.a.Endpoints.Value {
				s.a.Endpoints.Value[i].Forwarded.Value.ClientCAs = nil
			}
		},
		"any name allowed": func(s *scene) {
			s.Cluster.RequestHeader.Value.AllowedNames = nil
			s.Cluster.FrontProxy = Saw(issue(ca.proxy, testcerts.Subject{Name: "whatever"}))
		},
		"an HTTP proxy that leaves Services out": func(s *scene) {
			s.Cluster.APIServerPods.Value[0].Proxy = map[string]string{"HTTPS_PROXY": "http://192.0.2.8", "NO_PROXY": "10.96.0.0/12,.svc"}
		},
		"many restarts, long ago": func(s *scene) {
			s.a.Pods.Value[0].Object.Status.ContainerStatuses[0].RestartCount = 200
			s.a.Outages = Saw(Outages{map[string]int64{"MissingEndpoints": 5}, 1000 * time.Hour})
		},
		"a namespace that waits for others": func(s *scene) {
			s.Cluster.TerminatingNamespaces = Saw([]corev1.Namespace{{Status: corev1.NamespaceStatus{Conditions: []corev1.NamespaceCondition{
				{Type: corev1.NamespaceDeletionDiscoveryFailure, Status: corev1.ConditionTrue, Message: "other.example.com/v1: failed"},
				{Type: corev1.NamespaceContentRemaining, Status: corev1.ConditionTrue, Message: "pods. has 1 resource instances"},
			}}}})
		},
		"a namespace that waits for a group whose name ends with this one's": func(s *scene) {
			s.Cluster.TerminatingNamespaces = Saw([]corev1.Namespace{{Status: corev1.NamespaceStatus{Conditions: []corev1.NamespaceCondition{{
				Type: corev1.NamespaceDeletionDiscoveryFailure, Status: corev1.ConditionTrue,
				Message: "unable to retrieve the complete list of server APIs: custom.widgets.example.com/v1: the server is currently unable to handle the request",
			}}}}})
		},
		"another version of the group as a CRD": func(s *scene) {
			s.Cluster.CustomResources = Saw([]CustomResource{{"widgets.widgets.example.com", "widgets.example.com", "v2"}})
		},
		"a webhook beside the API, on one Service": func(s *scene) {
			s.Cluster.Webhooks = Saw([]Webhook{{"ValidatingWebhookConfiguration/widgets", "shop", "widgets", 443, "/validate"}})
		},
		"a file of a new server": func(s *scene) {
			s.Cluster.APIServices.Value = s.Cluster.APIServices.Value[1:]
			s.Facts = (&Facts{Now: s.Now, Cluster: s.Cluster}).WithFile(Manifest{
				APIService: s.object(), Service: s.a.Service.Value, Workloads: s.a.Workloads.Value, Rights: Rights(),
			})
		},
		"the chain with an authority between": func(s *scene) {
			s.shows(append(issue(ca.own, testcerts.Subject{Name: "widgets", Hosts: hosts}), parse(ca.own.PEM)...))
		},
		"a certificate that is missing where one was": func(s *scene) {
			s.shows([]*x509.Certificate{nil})
		},
		"no condition yet": func(s *scene) { s.object().Status = apiregistrationv1.APIServiceStatus{} },
	}
}
