package diagnosis

import (
	"crypto/x509"
	"encoding/pem"
	"sync"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/annex-api/annex/apis/aggregation/v1alpha1"
	"github.com/annex-api/annex/internal/testcerts"
)

const apiService = "v1.widgets.example.com"

// authorities are those of scenarios, made once.
var testAuthorities = sync.OnceValue(func() (a struct{ own, other, client, proxy *testcerts.Authority }) {
	a.own, a.other = testcerts.New("widgets-ca"), testcerts.New("other-ca")
	a.client, a.proxy = testcerts.New("kubernetes"), testcerts.New("front-proxy-ca")
	return a
})

// parse is the certificates of PEM.
func parse(content []byte) (certs []*x509.Certificate) {
	for block, rest := pem.Decode(content); block != nil; block, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			panic(err)
		}
		certs = append(certs, c)
	}
	return certs
}

func issue(by *testcerts.Authority, s testcerts.Subject) []*x509.Certificate {
	return parse(by.Issue(s).Cert)
}

// scene is facts under construction: those of a healthy extension server with two Pods, on a
// kube-apiserver that its owner runs.
type scene struct {
	*Facts
	a *APIServiceFacts
	// name is the APIService to be diagnosed.
	name string
}

func healthy() *scene {
	ca := testAuthorities()
	s := &scene{Facts: &Facts{Now: time.Now()}, a: &APIServiceFacts{}, name: apiService}
	s.APIServices = map[string]*APIServiceFacts{apiService: s.a}
	object := &apiregistrationv1.APIService{
		ObjectMeta: metav1.ObjectMeta{Name: apiService},
		Spec: apiregistrationv1.APIServiceSpec{
			Group: "widgets.example.com", Version: "v1", CABundle: ca.own.PEM,
			Service: &apiregistrationv1.ServiceReference{Namespace: "shop", Name: "widgets"},
		},
	}
	s.a.Object = Saw(object)
	s.condition("True", "Passed", "all checks passed")
	s.Cluster = ClusterFacts{
		Server: "10.0.0.1:6443", Version: Saw("v1.37.2"), Annex: Saw(false), ClockSkew: Saw(time.Duration(0)), Provider: Saw(""),
		APIServices:     Saw([]apiregistrationv1.APIService{*object, {ObjectMeta: metav1.ObjectMeta{Name: "v1.apps"}}}),
		CustomResources: Saw([]CustomResource{{"gadgets.other.example.com", "other.example.com", "v1"}}),
		Webhooks:        Saw([]Webhook{}),
		RequestHeader: Saw(&RequestHeader{
			ClientCA: parse(ca.client.PEM), RequestHeaderClientCA: parse(ca.proxy.PEM), HasRequestHeaderClientCA: true,
			AllowedNames: []string{"front-proxy-client"}, Changed: s.Now.Add(-100 * time.Hour),
		}),
		APIServerPods:         Saw([]APIServerPod{{Name: "kube-apiserver-cp", Node: "cp", Flags: map[string]string{}, Ready: true}}),
		Nodes:                 Saw([]Node{{Name: "cp", ControlPlane: true, Ready: true, Kernel: "6.1.0"}, {Name: "one", Ready: true}, {Name: "two", Ready: true}}),
		DaemonSets:            Saw([]DaemonSet{{Namespace: "kube-system", Name: "kube-proxy", Desired: 3, Ready: 3}}),
		ServiceCIDRs:          Saw([]string{"10.96.0.0/12"}),
		OpenAPIV2:             Saw(OpenAPIV2{Answer: Answer{Code: 200}}),
		Discovery:             Saw([]GroupVersionFreshness{{Group: "widgets.example.com", Version: "v1", Resources: 1}}),
		TerminatingNamespaces: Saw([]corev1.Namespace{}), Autoscalers: Saw([]autoscalingv2.HorizontalPodAutoscaler{}), Adapters: Saw([]Adapter{}),
	}
	s.a.Namespace = Saw(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}})
	s.a.Service = Saw(&corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "widgets"},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: "10.96.0.7", Selector: map[string]string{"app": "widgets"},
			Ports: []corev1.ServicePort{{Port: 443, TargetPort: intstr.FromInt32(8443)}},
		},
	})
	s.a.Workloads = Saw([]Workload{{Kind: "Deployment", Name: "widgets", Desired: 2, Ready: 2, Template: podSpec(), Labels: map[string]string{"app": "widgets"}}})
	s.a.NetworkPolicies = Saw([]networkingv1.NetworkPolicy{})
	s.a.ServiceAccount = "widgets"
	s.a.Rights = map[Right]Known[bool]{}
	for _, r := range Rights() {
		s.a.Rights[r] = Saw(true)
	}
	s.a.Pods = Saw([]Pod{testPod("widgets-1", "10.1.0.1", "one", s.Now), testPod("widgets-2", "10.1.0.2", "two", s.Now)})
	s.a.EndpointSlices = Saw([]discoveryv1.EndpointSlice{{
		Ports: []discoveryv1.EndpointPort{{Port: new(int32(8443))}},
		Endpoints: []discoveryv1.Endpoint{
			{Addresses: []string{"10.1.0.1"}, NodeName: new("one"), Conditions: discoveryv1.EndpointConditions{Ready: new(true)}},
			{Addresses: []string{"10.1.0.2"}, NodeName: new("two"), Conditions: discoveryv1.EndpointConditions{Ready: new(true)}},
		},
	}})
	good := Attempt{
		Chain: issue(ca.own, testcerts.Subject{Name: "widgets", Hosts: []string{"widgets.shop.svc"}}), ClientCAs: [][]byte{parse(ca.proxy.PEM)[0].RawSubject},
		GroupVersion: &Answer{Code: 403, ContentType: "application/json"}, Readyz: &Answer{Code: 200},
	}
	proxied := Attempt{GroupVersion: &Answer{Code: 403, ContentType: "application/json"}}
	s.a.Endpoints = Saw([]Endpoint{
		{Address: "10.1.0.1:8443", Pod: "widgets-1", Node: "one", Ready: true, Forwarded: Saw(good), Proxied: Saw(proxied)},
		{Address: "10.1.0.2:8443", Pod: "widgets-2", Node: "two", Ready: true, Forwarded: Saw(good), Proxied: Saw(proxied)},
	})
	path := "/apis/widgets.example.com/v1"
	s.a.GroupVersion = Saw(Answer{Path: path, Code: 200, ContentType: "application/json", Took: 10 * time.Millisecond})
	s.a.OwnAnswer = Unseen[Answer](ErrNotAsked)
	s.a.Resources = Saw([]metav1.APIResource{{Name: "widgets", Kind: "Widget"}})
	s.a.OpenAPIV3 = Saw(Answer{Path: "/openapi/v3" + path, Code: 200})
	s.a.List = Saw(Answer{Path: path + "/widgets?limit=1", Code: 200})
	s.a.Protobuf = Saw(Answer{Path: path + "/widgets?limit=1", Code: 200, ContentType: "application/json"})
	s.a.WatchList = Saw(WatchList{Resource: "widgets", Answer: Answer{Code: 200}, Bookmark: true, Waited: time.Second})
	s.a.Counts = Saw([]Count{{"widgets", 3, "7"}, {"widgets", 3, "7"}})
	s.a.Views = Saw([]v1alpha1.View{{Server: "10.0.0.1:6443", Available: "True"}})
	return s
}

func podSpec() corev1.PodSpec {
	return corev1.PodSpec{
		ServiceAccountName: "widgets", NodeName: "one",
		Containers: []corev1.Container{{Name: "server", Ports: []corev1.ContainerPort{{Name: "https", ContainerPort: 8443}}}},
		Volumes:    []corev1.Volume{{Name: "tls", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "widgets-tls"}}}},
	}
}

func testPod(name, ip, node string, now time.Time) Pod {
	p := Pod{Object: corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: name, Labels: map[string]string{"app": "widgets"},
			OwnerReferences: []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "widgets-5d8f"}},
		},
		Spec: podSpec(),
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, PodIP: ip, StartTime: &metav1.Time{Time: now.Add(-10 * time.Hour)},
			Conditions:        []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
			ContainerStatuses: []corev1.ContainerStatus{{Name: "server", Ready: true}},
		},
	}}
	p.Object.Spec.NodeName = node
	p.Logs = Saw([]Log{{Container: "server", Lines: []Line{{now, "serving"}}}})
	return p
}

func (s *scene) object() *apiregistrationv1.APIService { return s.a.Object.Value }

func (s *scene) condition(status, reason, message string) {
	s.object().Status.Conditions = []apiregistrationv1.APIServiceCondition{{
		Type: apiregistrationv1.Available, Status: apiregistrationv1.ConditionStatus(status), Reason: reason, Message: message,
		LastTransitionTime: metav1.Time{Time: s.Now.Add(-time.Hour)},
	}}
}

// fails has the API server's check fail.
func (s *scene) fails(message string) {
	s.condition("False", "FailedDiscoveryCheck", "failing or missing response from https://10.96.0.7:443/apis/widgets.example.com/v1: "+message)
	s.a.GroupVersion = Saw(Answer{Path: "/apis/widgets.example.com/v1", Code: 503, Status: &metav1.Status{Message: "the server is currently unable to handle the request"}})
	for _, k := range []*Known[Answer]{&s.a.List, &s.a.Protobuf, &s.a.OpenAPIV3} {
		*k = Unseen[Answer](ErrNotAsked)
	}
	s.a.Resources, s.a.WatchList, s.a.Counts = Unseen[[]metav1.APIResource](ErrNotAsked), Known[WatchList]{}, Known[[]Count]{}
}

// badStatus has the check answered with a status.
func (s *scene) badStatus(code string) {
	s.fails("bad status from https://10.96.0.7:443/apis/widgets.example.com/v1: " + code)
}

// timesOut has the check time out, and says whether endpoints answer on their own nodes.
func (s *scene) timesOut(alive bool) {
	s.fails(`Get "https://10.96.0.7:443/apis/widgets.example.com/v1": context deadline exceeded (Client.Timeout exceeded while awaiting headers)`)
	for i := range s.a.Endpoints.Value {
		e := &s.a.Endpoints.Value[i]
		e.Proxied = Saw(Attempt{Failure: "error trying to reach service: dial tcp " + e.Address + ": i/o timeout"})
		if !alive {
			e.Forwarded = Unseen[Attempt](ErrForbidden)
		}
	}
}

// unready has no Pod ready, which log that.
func (s *scene) unready(lines ...string) {
	s.condition("False", "MissingEndpoints", `endpointslices for service/widgets in "shop" have no addresses with port name ""`)
	s.fails("")
	s.condition("False", "MissingEndpoints", `endpointslices for service/widgets in "shop" have no addresses with port name ""`)
	for i := range s.a.Pods.Value {
		p := &s.a.Pods.Value[i]
		p.Object.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionFalse}}
		p.Logs = s.log(0, lines)
		s.a.EndpointSlices.Value[0].Endpoints[i].Conditions.Ready = new(false)
	}
	s.a.Endpoints = Saw([]Endpoint{})
}

// logs has the Pods log lines just now, and stay as they are; logged has them do so a time ago.
func (s *scene) logs(lines ...string) { s.logged(0, lines...) }

func (s *scene) logged(ago time.Duration, lines ...string) {
	for i := range s.a.Pods.Value {
		s.a.Pods.Value[i].Logs = s.log(ago, lines)
	}
}

// undated is how long ago a line was written of which nobody knows when.
const undated = time.Duration(-1)

func (s *scene) log(ago time.Duration, texts []string) Known[[]Log] {
	return Saw([]Log{{Container: "server", Lines: s.lines(ago, texts...)}})
}

func (s *scene) lines(ago time.Duration, texts ...string) []Line {
	var all []Line
	for _, text := range texts {
		line := Line{s.Now.Add(-ago), text}
		if ago == undated {
			line.At = time.Time{}
		}
		all = append(all, line)
	}
	return all
}

// shows has every endpoint show a certificate.
func (s *scene) shows(chain []*x509.Certificate) {
	for i := range s.a.Endpoints.Value {
		s.a.Endpoints.Value[i].Forwarded.Value.Chain = chain
	}
}

// annex makes the API server Annex, which sees it so.
func (s *scene) annex(change func(*v1alpha1.RemoteAPIServiceStatus)) {
	s.Cluster.Annex = Saw(true)
	r := &v1alpha1.RemoteAPIService{Status: v1alpha1.RemoteAPIServiceStatus{
		Group: "widgets.example.com", Version: "v1", State: v1alpha1.Healthy, EndpointSummary: "2/2", WatchList: "Works",
		Limits: v1alpha1.Limits{MaxInFlight: 400},
		Endpoints: []v1alpha1.Endpoint{
			{Address: "10.1.0.1:8443", Kind: "endpoint", Pod: "shop/widgets-1", State: v1alpha1.EndpointHealthy},
			{Address: "10.1.0.2:8443", Kind: "endpoint", Pod: "shop/widgets-2", State: v1alpha1.EndpointHealthy},
		},
		Discovery: v1alpha1.Discovery{Document: v1alpha1.Document{Freshness: v1alpha1.Current}, Resources: 1},
		OpenAPIV2: v1alpha1.Document{Freshness: v1alpha1.Current}, OpenAPIV3: v1alpha1.Document{Freshness: v1alpha1.Current},
	}}
	change(&r.Status)
	s.a.Remote = Saw(r)
}

// wrote adds a field manager that owns spec.caBundle.
func (s *scene) wrote(manager string, ago time.Duration) {
	s.object().ManagedFields = append(s.object().ManagedFields, metav1.ManagedFieldsEntry{
		Manager: manager, Time: &metav1.Time{Time: s.Now.Add(-ago)}, FieldsV1: metav1.NewFieldsV1(`{"f:spec":{"f:caBundle":{}}}`),
	})
}

// servicePort is the Service's, to change it.
func (s *scene) servicePort() *corev1.ServicePort { return &s.a.Service.Value.Spec.Ports[0] }

// outside leaves the Service without Pods: the extension server runs outside of the cluster.
func (s *scene) outside() {
	s.a.Pods, s.a.Workloads, s.a.ServiceAccount = Saw([]Pod{}), Saw([]Workload{}), ""
	s.a.Endpoints = Saw([]Endpoint{{Address: "10.1.0.1:8443", Ready: true}})
}
