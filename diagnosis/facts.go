package diagnosis

import (
	"crypto/x509"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/annex-api/annex/apis/aggregation/v1alpha1"
)

// Facts are what was seen of a cluster, and of those of its APIServices that were looked at.
// Nothing in them changes once they are given to [Diagnose].
//
// Each fact may be unknown. A check that needs an unknown one says so, and the others go on.
// Text from the cluster stays as it came: what is made of it is bounded and made printable.
type Facts struct {
	// Now is the caller's clock at the time of gathering. Certificates are judged by it, corrected
	// by Cluster.ClockSkew.
	Now time.Time
	// Cluster is what all APIServices share.
	Cluster ClusterFacts
	// APIServices are those that were looked at closely, by name.
	APIServices map[string]*APIServiceFacts
}

// ClusterFacts are what all APIServices share.
type ClusterFacts struct {
	// Server is the address of the API server that was asked, as host:port.
	Server string
	// Version is its gitVersion, from /version.
	Version Known[string]
	// Annex says whether it serves aggregation.annex.dev.
	Annex Known[bool]
	// ClockSkew is its Date header minus the caller's clock, in whole seconds.
	ClockSkew Known[time.Duration]
	// Provider is who runs the control plane: "GKE", "EKS", "AKS", … where version, nodes'
	// providerID or labels say so; "" for a cluster that is managed by its owner.
	Provider Known[string]

	// APIServices are all of them, local ones too.
	APIServices Known[[]apiregistrationv1.APIService]
	// CustomResources are the group versions that CustomResourceDefinitions claim.
	CustomResources Known[[]CustomResource]
	// Webhooks are the Services that webhook configurations lead to.
	Webhooks Known[[]Webhook]

	// RequestHeader is the ConfigMap kube-system/extension-apiserver-authentication; nil if there
	// is none.
	RequestHeader Known[*RequestHeader]
	// FrontProxy is the certificate that the API server shows to extension servers, with its
	// chain. It can be seen on Annex (as Certificate alone, see RemoteAPIService), or in a file
	// on the control plane.
	FrontProxy Known[[]*x509.Certificate]

	// APIServerPods are the static Pods of kube-apiserver, where there are any to see.
	APIServerPods Known[[]APIServerPod]
	// Nodes are the cluster's, at most 5,000.
	Nodes Known[[]Node]
	// DaemonSets are those of kube-system and of known network add-ons: kube-proxy, the overlay,
	// konnectivity agents.
	DaemonSets Known[[]DaemonSet]
	// ServiceCIDRs are the ranges of cluster IPs.
	ServiceCIDRs Known[[]string]

	// OpenAPIV2 is GET /openapi/v2 and what is wrong with the definitions in it.
	OpenAPIV2 Known[OpenAPIV2]
	// Discovery is GET /apis, aggregated: how fresh each group version is.
	Discovery Known[[]GroupVersionFreshness]

	// TerminatingNamespaces are those in deletion, with their conditions, at most 500.
	TerminatingNamespaces Known[[]corev1.Namespace]
	// Autoscalers are the HorizontalPodAutoscalers, at most 2,000.
	Autoscalers Known[[]autoscalingv2.HorizontalPodAutoscaler]
	// Adapters are Deployments that serve metrics APIs, known by the names of their images.
	Adapters Known[[]Adapter]
}

// APIServiceFacts are what was seen of one APIService and of what stands behind it.
type APIServiceFacts struct {
	// Object is the APIService, with managedFields; nil if there is none.
	Object Known[*apiregistrationv1.APIService]
	// File says that Object, and perhaps Service and Workloads, are from a file and not applied.
	File bool
	// Remote is the RemoteAPIService of that name; nil if the API server is not Annex.
	Remote Known[*v1alpha1.RemoteAPIService]

	// Namespace is that of the Service; nil if there is none.
	Namespace Known[*corev1.Namespace]
	// Service is what spec.service names; nil if there is none.
	Service Known[*corev1.Service]
	// EndpointSlices are those of the Service.
	EndpointSlices Known[[]discoveryv1.EndpointSlice]
	// Pods are those that the Service's selector selects, ready or not, at most 50.
	Pods Known[[]Pod]
	// Workloads are the Deployments, StatefulSets and DaemonSets whose Pods the Service selects.
	Workloads Known[[]Workload]
	// SimilarServices are the names of Services of that namespace whose selector selects a Pod,
	// or whose name resembles the wanted one; asked where Service is nil.
	SimilarServices Known[[]string]
	// NetworkPolicies are those of the Service's namespace. They, Namespace, Rights, ReaderBindings and
	// what Pods log are not asked for where all is well and it is one among many.
	NetworkPolicies Known[[]networkingv1.NetworkPolicy]

	// ServiceAccount is the one that the Pods run as.
	ServiceAccount string
	// Rights are what it may do, by SubjectAccessReview.
	Rights map[Right]Known[bool]
	// ReaderBindings are the RoleBindings, as namespace/name, that give this ServiceAccount the
	// role extension-apiserver-authentication-reader; those outside kube-system do nothing.
	ReaderBindings Known[[]string]

	// Endpoints are the addresses of EndpointSlices (ready or not), each tried by itself, at most 20.
	Endpoints Known[[]Endpoint]
	// ServiceFromPod is the Service's cluster IP, tried from the Pod of [Endpoint.ProbePod].
	ServiceFromPod Known[Attempt]

	// GroupVersion is GET /apis/GROUP/VERSION, as the API server answers the caller.
	GroupVersion Known[Answer]
	// OwnAnswer is GET /version, which the API server answers by itself: asked where GroupVersion came
	// late or not at all, it tells a slow extension server from a slow API server.
	OwnAnswer Known[Answer]
	// Resources are the resources in that answer, subresources included.
	Resources Known[[]metav1.APIResource]
	// OpenAPIV3 is GET /openapi/v3/apis/GROUP/VERSION.
	OpenAPIV3 Known[Answer]
	// List is GET of the first resource that can be listed, limit=1, as JSON.
	List Known[Answer]
	// Protobuf is the same with an Accept header as client-go's: protobuf first, then JSON.
	Protobuf Known[Answer]
	// Apply is a server-side apply with dryRun=All of an object as it is. It is asked only if the
	// caller wants it: a server may not heed dryRun.
	Apply Known[Answer]
	// WatchList is a watch with sendInitialEvents of the first resource that can be watched.
	WatchList Known[WatchList]
	// Counts are the number of objects in lists of the same resource, asked in a row (limit=10):
	// fewer than before means that something vanished meanwhile, or that replicas disagree.
	Counts Known[[]Count]

	// Views are what each API server holds of the APIService: from the RemoteAPIService, or from
	// the metric aggregator_unavailable_apiservice of each API server that can be asked.
	Views Known[[]v1alpha1.View]
	// Outages are how often the API server saw it become unavailable, by reason, from the metric
	// aggregator_unavailable_apiservice_total.
	Outages Known[Outages]
	// APIServerLog are lines of API servers' logs that name the APIService or its group version,
	// latest last, at most 50 of 500 bytes each.
	APIServerLog Known[[]Line]
}

// CustomResource is a group version that a CustomResourceDefinition serves.
type CustomResource struct {
	Name, Group, Version string
}

// Webhook is a webhook whose clientConfig names a Service.
type Webhook struct {
	// Configuration is the object's kind and name: "ValidatingWebhookConfiguration/x".
	Configuration string
	// Namespace and Service are where it leads.
	Namespace, Service string
	// Port is 443 unless it says otherwise.
	Port int32
	// Path is where requests go there.
	Path string
}

// RequestHeader is what extension servers read to know the front proxy.
type RequestHeader struct {
	// ClientCA are the certificates of client-ca-file.
	ClientCA []*x509.Certificate
	// RequestHeaderClientCA are those of requestheader-client-ca-file.
	RequestHeaderClientCA []*x509.Certificate
	// HasRequestHeaderClientCA says that the key is there.
	HasRequestHeaderClientCA bool
	// AllowedNames are requestheader-allowed-names; empty means any.
	AllowedNames []string
	// UsernameHeaders are requestheader-username-headers.
	UsernameHeaders []string
	// Changed is when the ConfigMap was written last: the newest time of its managedFields.
	Changed time.Time
	// Problem is what could not be parsed.
	Problem string
}

// APIServerPod is a kube-apiserver that runs as a Pod.
type APIServerPod struct {
	Name, Node, HostIP string
	// Flags are the command line's, without dashes: "enable-aggregator-routing": "true".
	Flags map[string]string
	// Proxy are the environment's HTTP_PROXY, HTTPS_PROXY and NO_PROXY, names in upper case.
	Proxy map[string]string
	Ready bool
	// Started is when its container started.
	Started time.Time
}

// Node is what is worth knowing of a node.
type Node struct {
	Name         string
	Addresses    []string // internal ones first
	PodCIDRs     []string
	ProviderID   string
	Kernel       string
	ControlPlane bool
	Ready        bool
	// ReadySince is when Ready changed last.
	ReadySince time.Time
}

// DaemonSet is how many Pods of one there should be, and are.
type DaemonSet struct {
	Namespace, Name string
	Desired, Ready  int32
	// NotReadyOn are the nodes whose Pod is missing or not ready, at most 20.
	NotReadyOn []string
}

// OpenAPIV2 is the document that all extension servers' definitions are merged into.
type OpenAPIV2 struct {
	Answer
	// Dangling are references to definitions that are not there, at most 100.
	Dangling []DanglingReference
}

// DanglingReference is a reference to nowhere.
type DanglingReference struct {
	// From is the definition that holds it, To the one that it names.
	From, To string
	// Groups are the groups of the definition's x-kubernetes-group-version-kind, or of the paths
	// that lead to it, as far as they are known.
	Groups []string
}

// GroupVersionFreshness is an entry of aggregated discovery.
type GroupVersionFreshness struct {
	Group, Version string
	// Stale says that the API server could not refresh it.
	Stale bool
	// Resources is how many it lists.
	Resources int
}

// Adapter is a Deployment that serves a metrics API.
type Adapter struct {
	Namespace, Name string
	// Product is what it is: "KEDA", "Prometheus Adapter", "metrics-server", "Datadog", ….
	Product string
	// Groups are the API groups that it serves whenever it runs; those that it may serve are left out.
	Groups []string
	// Services are the names of the Services of its namespace that select its Pods.
	Services []string
}

// Pod is one that stands behind the Service.
type Pod struct {
	// Object is the Pod: statuses, waiting reasons, restarts, ports, hostNetwork, node.
	Object corev1.Pod
	// Logs are the last lines of its containers, those of the previous run where it restarts.
	Logs Known[[]Log]
	// Events are the messages of its latest Warning events, at most 10.
	Events Known[[]string]
}

// Log is the end of a container's log.
type Log struct {
	Container string
	// Previous says that it is that of the run before.
	Previous bool
	// Lines are the last ones, at most 50 of 500 bytes each.
	Lines []Line
}

// Line is a line of a log.
type Line struct {
	// At is when it was written, by the clock of its node; zero where that is not known.
	At   time.Time
	Text string
}

// Workload is what makes the Pods.
type Workload struct {
	// Kind is Deployment, StatefulSet or DaemonSet.
	Kind, Name     string
	Desired, Ready int32
	// Problem is the message of a condition that says why there are no Pods: ReplicaFailure.
	Problem string
	// EarlierPorts are the container ports of its earlier ReplicaSets that it has no more.
	EarlierPorts []int32
	// Template is the Pod template's spec: ports, arguments, service account, probes.
	Template corev1.PodSpec
	// Labels are the Pod template's.
	Labels map[string]string
}

// Right is something that an extension server's ServiceAccount usually has to be allowed.
type Right string

// The rights that are asked for.
const (
	// ReadAuthentication: get the ConfigMap kube-system/extension-apiserver-authentication.
	ReadAuthentication Right = "get configmap kube-system/extension-apiserver-authentication"
	// ReviewAccess: create subjectaccessreviews.authorization.k8s.io.
	ReviewAccess Right = "create subjectaccessreviews.authorization.k8s.io"
	// ReviewTokens: create tokenreviews.authentication.k8s.io.
	ReviewTokens Right = "create tokenreviews.authentication.k8s.io"
	// WatchFlowSchemas: list and watch flowschemas.
	WatchFlowSchemas Right = "list flowschemas.flowcontrol.apiserver.k8s.io"
	// WatchPriorityLevels: list and watch prioritylevelconfigurations.
	WatchPriorityLevels Right = "list prioritylevelconfigurations.flowcontrol.apiserver.k8s.io"
	// WatchMutatingWebhooks: list and watch mutatingwebhookconfigurations.
	WatchMutatingWebhooks Right = "list mutatingwebhookconfigurations.admissionregistration.k8s.io"
	// WatchValidatingWebhooks: list and watch validatingwebhookconfigurations.
	WatchValidatingWebhooks Right = "list validatingwebhookconfigurations.admissionregistration.k8s.io"
	// WatchNamespaces: list and watch namespaces, which admission does.
	WatchNamespaces Right = "list namespaces"
)

// Rights are all of them.
func Rights() []Right {
	return []Right{
		ReadAuthentication, ReviewAccess, ReviewTokens, WatchFlowSchemas, WatchPriorityLevels,
		WatchMutatingWebhooks, WatchValidatingWebhooks, WatchNamespaces,
	}
}

// Endpoint is one address behind the Service, tried by every way that there is. That one way leads
// to it and another does not names the broken link.
type Endpoint struct {
	// Address is IP:port.
	Address string
	// Pod is the Pod's name, Node the node's; empty if it is none.
	Pod, Node string
	// Ready is the EndpointSlice's condition.
	Ready bool
	// Forwarded is by port-forward: the kubelet connects to the Pod on its own node.
	Forwarded Known[Attempt]
	// Proxied is by the API server's Pod proxy (…/pods/https:NAME:PORT/proxy/apis/G/V): the API
	// server connects over the network that requests for the extension server use. Where it answers
	// 503 because it could not, Failure is its message. Answers are to a caller without credentials.
	Proxied Known[Attempt]
	// Direct is from where the caller is.
	Direct Known[Attempt]
	// ProbePod is from a Pod of the Service's namespace, over the Pods' network.
	ProbePod Known[Attempt]
}

// Attempt is one connection to an endpoint, without credentials unless it is proxied.
type Attempt struct {
	// Failure is why there was no connection: "connection refused", "i/o timeout", … as it came.
	Failure string
	// TLSFailure is why the handshake failed, with no certificate verified.
	TLSFailure string
	// Took is until the connection stood, or failed.
	Took time.Duration
	// Chain is what the extension server showed for SERVICE.NAMESPACE.svc, its own first.
	Chain []*x509.Certificate
	// ClientCAs are the raw subjects of the authorities whose client certificates it asks for.
	ClientCAs [][]byte
	// GroupVersion is GET /apis/GROUP/VERSION; Groups GET /apis; OpenAPIV2 HEAD or GET /openapi/v2;
	// Readyz GET /readyz?verbose. Each is nil where it was not asked.
	GroupVersion, Groups, OpenAPIV2, Readyz *Answer
}

// Answer is what was answered to a request.
type Answer struct {
	// Path is what was asked.
	Path string
	// Failure is why there was no answer, as it came.
	Failure string
	// Code is the HTTP status; 0 if there was no answer.
	Code int
	// ContentType and Server are headers, Warnings those of that name.
	ContentType, Server string
	Warnings            []string
	// PriorityLevels are what fairness put the request into, by uid: the API server's, and where the
	// extension server has fairness of its own, its one after that.
	PriorityLevels []string
	// Body is its beginning, at most 4 KiB.
	Body []byte
	// Status is the body where it is one.
	Status *metav1.Status
	// Took is until the answer was complete.
	Took time.Duration
}

// WatchList is what came of a watch with sendInitialEvents.
type WatchList struct {
	Resource string
	// Answer's Failure also says why the watch ended before it was waited as long as it was to be. A
	// watch that was cut off shows nothing of bookmarks.
	Answer
	// Bookmark says that the end of the initial events came.
	Bookmark bool
	// Events is how many came, and Waited how long it was waited.
	Events int
	Waited time.Duration
}

// Count is one list.
type Count struct {
	Resource string
	// Objects is how many it had, those that remain after the limit counted where told.
	Objects int64
	// ResourceVersion is the list's.
	ResourceVersion string
}

// Outages are how often an APIService became unavailable.
type Outages struct {
	// ByReason counts since the API server started.
	ByReason map[string]int64
	// Over is how long that was.
	Over time.Duration
}
