package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// RemoteAPIService is an APIService that leads to an extension server, as the API server that
// answers sees it. It has the APIService's name.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,shortName=ras,categories=annex
// +kubebuilder:printcolumn:name="Service",type=string,JSONPath=`.status.service`
// +kubebuilder:printcolumn:name="State",type=string,JSONPath=`.status.state`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.reason`
// +kubebuilder:printcolumn:name="Endpoints",type=string,JSONPath=`.status.endpointSummary`
// +kubebuilder:printcolumn:name="P99",type=string,JSONPath=`.status.latency.p99`,priority=1
// +kubebuilder:printcolumn:name="Errors",type=string,JSONPath=`.status.errorRate`,priority=1
// +kubebuilder:printcolumn:name="In flight",type=integer,JSONPath=`.status.limits.inFlight`,priority=1
// +kubebuilder:printcolumn:name="Discovery",type=string,JSONPath=`.status.discovery.freshness`,priority=1
// +kubebuilder:printcolumn:name="Watch list",type=string,JSONPath=`.status.watchList`,priority=1
// +kubebuilder:printcolumn:name="Since",type=date,JSONPath=`.status.since`
type RemoteAPIService struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Status is what the API server sees.
	Status RemoteAPIServiceStatus `json:"status"`
}

// RemoteAPIServiceList is a list of RemoteAPIServices.
//
// +kubebuilder:object:root=true
type RemoteAPIServiceList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []RemoteAPIService `json:"items"`
}

// State says in a word how an APIService fares.
//
// +kubebuilder:validation:Enum=Healthy;Degraded;Unavailable;Unknown
type State string

// The states of an APIService.
const (
	// Healthy: requests are answered, and nothing is known to be wrong.
	Healthy State = "Healthy"
	// Degraded: requests are answered, and something is wrong: a replica is left out, a document
	// is stale, a certificate is about to expire, or another API server sees it otherwise.
	Degraded State = "Degraded"
	// Unavailable: requests are refused.
	Unavailable State = "Unavailable"
	// Unknown: nothing has been found out yet.
	Unknown State = "Unknown"
)

// RemoteAPIServiceStatus is what one API server sees of an APIService and its extension server.
type RemoteAPIServiceStatus struct {
	// Group is the API group.
	Group string `json:"group"`
	// Version is the group's version.
	Version string `json:"version"`
	// Service is where the APIService leads, as namespace/name:port.
	Service string `json:"service"`

	// State is the verdict.
	State State `json:"state"`
	// Reason is why, as a word: the reason of the condition Available, or that of the first of
	// faults. It is empty while State is Healthy.
	Reason string `json:"reason,omitempty"`
	// Message is why, in a sentence. It is at most 1,000 bytes long.
	Message string `json:"message,omitempty"`
	// Since is when State or Reason changed last.
	Since metav1.Time `json:"since,omitempty,omitzero"`
	// Faults are what is known to be wrong, gravest first.
	Faults []Fault `json:"faults,omitempty"`

	// Server is the API server that sees all this, as host:port.
	Server string `json:"server,omitempty"`
	// Views are what each API server says of whether the APIService is available, this one first.
	// Other servers are listed only where they see it otherwise.
	Views []View `json:"views,omitempty"`

	// EndpointSummary is how many endpoints are healthy, of how many: "2/3".
	EndpointSummary string `json:"endpointSummary"`
	// Endpoints are the addresses that requests may go to.
	Endpoints []Endpoint `json:"endpoints,omitempty"`

	// Latency is how long the extension server takes to begin an answer, over all its endpoints.
	Latency *Latency `json:"latency,omitempty"`
	// ErrorRate is the share of requests of the last minute that failed at the extension server,
	// as a percentage: "0.5%". It is empty where there were none.
	ErrorRate string `json:"errorRate,omitempty"`

	// Limits bound the requests that are under way. They are shared by APIServices that lead to
	// the same Service.
	Limits Limits `json:"limits"`

	// Discovery is what is known of its resources.
	Discovery Discovery `json:"discovery"`
	// OpenAPIV2 is what is known of its OpenAPI v2 document.
	OpenAPIV2 Document `json:"openAPIV2"`
	// OpenAPIV3 is what is known of its OpenAPI v3 document.
	OpenAPIV3 Document `json:"openAPIV3"`

	// WatchList says whether watches with sendInitialEvents end their initial events: Works,
	// Missing, Refused, or Unknown.
	WatchList string `json:"watchList"`

	// Certificates are those on the way to the extension server.
	Certificates Certificates `json:"certificates"`

	// Affected is who suffers while the APIService is not available.
	Affected *Affected `json:"affected,omitempty"`
}

// Fault is something that is known to be wrong.
type Fault struct {
	// Code is the fault's stable name, such as ANX101. "annex doctor --explain CODE" tells more.
	Code string `json:"code,omitempty"`
	// Reason is the fault as a word.
	Reason string `json:"reason"`
	// Message is what was seen, in a sentence.
	Message string `json:"message"`
}

// View is what one API server says of an APIService.
type View struct {
	// Server is that API server, as host:port, or as it names itself.
	Server string `json:"server"`
	// Available is its condition: True, False or Unknown.
	Available metav1.ConditionStatus `json:"available"`
	// Reason is the condition's reason.
	Reason string `json:"reason,omitempty"`
	// Since is when this began.
	Since metav1.Time `json:"since,omitempty,omitzero"`
}

// EndpointState says whether requests go to an endpoint.
//
// +kubebuilder:validation:Enum=Healthy;Ejected;Draining;Unreachable
type EndpointState string

// The states of an endpoint.
const (
	// EndpointHealthy: it gets its share.
	EndpointHealthy EndpointState = "Healthy"
	// EndpointEjected: requests failed there, and it is left out for a while.
	EndpointEjected EndpointState = "Ejected"
	// EndpointDraining: its Pod is ending, and it gets requests only where there is no other.
	EndpointDraining EndpointState = "Draining"
	// EndpointUnreachable: its last probe failed.
	EndpointUnreachable EndpointState = "Unreachable"
)

// Endpoint is one address of an extension server.
type Endpoint struct {
	// Address is host:port.
	Address string `json:"address"`
	// Kind is "endpoint", or "clusterIP" for the Service's own address, which stands in while no
	// endpoint is healthy.
	Kind string `json:"kind"`
	// Zone is where it is, as its EndpointSlice says.
	Zone string `json:"zone,omitempty"`
	// Node is the node that it runs on, as its EndpointSlice says.
	Node string `json:"node,omitempty"`
	// Pod is the Pod behind it, as namespace/name.
	Pod string `json:"pod,omitempty"`
	// State says whether requests go there.
	State EndpointState `json:"state"`
	// Since is when State changed last.
	Since metav1.Time `json:"since,omitempty,omitzero"`
	// InFlight is how many requests are under way there, watches included.
	InFlight int64 `json:"inFlight"`
	// Requests is how many requests were sent there in the last minute.
	Requests int64 `json:"requests"`
	// Latency is how long it takes to begin an answer.
	Latency *Latency `json:"latency,omitempty"`
	// ErrorRate is the share of the last minute's requests that failed there, as a percentage.
	ErrorRate string `json:"errorRate,omitempty"`
	// LastError is the last failure, if there was one.
	LastError *LastError `json:"lastError,omitempty"`
}

// LastError is a failure at an endpoint.
type LastError struct {
	// Message is what failed. It is at most 500 bytes long, and printable.
	Message string `json:"message"`
	// Time is when.
	Time metav1.Time `json:"time"`
}

// Latency is over the requests of the last minute, watches and other streams left out.
type Latency struct {
	// P50 is the median, such as "12ms", with two figures that count.
	P50 string `json:"p50"`
	// P99 is what 99 of 100 requests stay below.
	P99 string `json:"p99"`
}

// Limits are how many requests may be under way, and how many are.
type Limits struct {
	// MaxInFlight is how many may be under way, watches not counted.
	MaxInFlight int64 `json:"maxInFlight"`
	// InFlight is how many are.
	InFlight int64 `json:"inFlight"`
	// Queued is how many wait for others to end.
	Queued int64 `json:"queued"`
}

// Freshness says how much a document can be relied on.
//
// +kubebuilder:validation:Enum=Current;Stale;Unknown
type Freshness string

// How fresh a document is.
const (
	// Current: the last download succeeded.
	Current Freshness = "Current"
	// Stale: the last download failed, and an older document is served.
	Stale Freshness = "Stale"
	// NeverFetched: no download has succeeded.
	NeverFetched Freshness = "Unknown"
)

// Discovery is what is known of an APIService's resources.
type Discovery struct {
	Document `json:",inline"`
	// Resources is how many there are, subresources not counted.
	Resources int64 `json:"resources"`
	// Warning is what is not as it should be, though its meaning is clear.
	Warning string `json:"warning,omitempty"`
}

// Document is a document that is downloaded from an extension server.
type Document struct {
	// Freshness says how much it can be relied on.
	Freshness Freshness `json:"freshness"`
	// Fetched is when it was downloaded, or found unchanged, last. A watch does not tell of it alone.
	Fetched metav1.Time `json:"fetched,omitempty,omitzero"`
	// Bytes is its size as it is kept.
	Bytes int64 `json:"bytes"`
	// Problem is why the last download failed. It is at most 1,000 bytes long.
	Problem string `json:"problem,omitempty"`
}

// Certificates are those that a request to an extension server depends on.
type Certificates struct {
	// Serving is what the extension server shows; where its endpoints have certificates of their
	// own, the one that expires first.
	Serving *Certificate `json:"serving,omitempty"`
	// CABundle is what the APIService trusts; empty means the system's roots.
	CABundle []Certificate `json:"caBundle,omitempty"`
	// FrontProxy is what this API server shows to extension servers.
	FrontProxy *Certificate `json:"frontProxy,omitempty"`
}

// Certificate is what is worth knowing of an X.509 certificate.
type Certificate struct {
	// Subject is its distinguished name.
	Subject string `json:"subject"`
	// Issuer is the distinguished name of who signed it.
	Issuer string `json:"issuer"`
	// Names are the DNS names and addresses that it is for, at most 20.
	Names []string `json:"names,omitempty"`
	// NotBefore is when it becomes valid.
	NotBefore metav1.Time `json:"notBefore"`
	// NotAfter is when it expires.
	NotAfter metav1.Time `json:"notAfter"`
	// DaysLeft is how many whole days are left; negative once it has expired.
	DaysLeft int64 `json:"daysLeft"`
	// KeyID is the key's identifier as hexadecimal, to tell two of one name apart.
	KeyID string `json:"keyID,omitempty"`
	// AuthorityKeyID is that of the issuer's key.
	AuthorityKeyID string `json:"authorityKeyID,omitempty"`
}

// Affected is who suffers from an APIService that is not available.
type Affected struct {
	// Namespaces are those stuck in deletion, at most 20 of them.
	Namespaces []string `json:"namespaces,omitempty"`
	// NamespaceCount is how many there are.
	NamespaceCount int64 `json:"namespaceCount"`
	// Autoscalers are HorizontalPodAutoscalers without metrics, as namespace/name, at most 20.
	Autoscalers []string `json:"autoscalers,omitempty"`
	// AutoscalerCount is how many there are.
	AutoscalerCount int64 `json:"autoscalerCount"`
	// Controllers are parts of Kubernetes that are held up: "garbage collector", "resource quota".
	Controllers []string `json:"controllers,omitempty"`
}
