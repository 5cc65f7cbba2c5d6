package catalog

import (
	"crypto/sha256"
	"fmt"
	"net"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// LegacyName is the APIService of the group without a name; it owns /api.
	LegacyName = "v1."
	// DefaultPort is the Service port of an APIService that names none.
	DefaultPort = 443
)

// ServiceRef names the Service and port that an extension server is behind.
type ServiceRef struct {
	Namespace string
	Name      string
	Port      int32
}

// Key is the Service's namespace and name.
func (r ServiceRef) Key() types.NamespacedName {
	return types.NamespacedName{Namespace: r.Namespace, Name: r.Name}
}

// ServerName is the name that the extension server's certificate must carry.
func (r ServiceRef) ServerName() string { return r.Name + "." + r.Namespace + ".svc" }

func (r ServiceRef) String() string {
	return r.Namespace + "/" + r.Name + ":" + strconv.Itoa(int(r.Port))
}

// Registration is one APIService as the layer needs it.
type Registration struct {
	Name    string
	Group   string
	Version string
	// Local is true when this server answers the group version itself.
	Local bool
	// Service is set when Local is false.
	Service ServiceRef
	// CABundle is PEM; empty means the system's roots.
	CABundle              []byte
	InsecureSkipTLSVerify bool
	GroupPriorityMinimum  int32
	VersionPriority       int32
	// Settings are the APIService's own; what does not parse is left out.
	Settings Settings
	// Invalid says why this registration is not routed; empty means it is.
	Invalid string
	// Object is the stored object, owned by the source: read only.
	Object *apiregistrationv1.APIService

	// ca is the digest of CABundle.
	ca [sha256.Size]byte
}

// NewRegistration reads an APIService. It never fails: what cannot be routed
// carries its reason in Invalid.
func NewRegistration(o *apiregistrationv1.APIService) Registration {
	r := Registration{
		Name:                  o.Name,
		Group:                 o.Spec.Group,
		Version:               o.Spec.Version,
		Local:                 o.Spec.Service == nil,
		CABundle:              o.Spec.CABundle,
		InsecureSkipTLSVerify: o.Spec.InsecureSkipTLSVerify,
		GroupPriorityMinimum:  o.Spec.GroupPriorityMinimum,
		VersionPriority:       o.Spec.VersionPriority,
		Object:                o,
		ca:                    sha256.Sum256(o.Spec.CABundle),
	}
	if s := o.Spec.Service; s != nil {
		r.Service = ServiceRef{Namespace: s.Namespace, Name: s.Name, Port: DefaultPort}
		if s.Port != nil {
			r.Service.Port = *s.Port
		}
		if s.Namespace == "" || s.Name == "" {
			r.Invalid = "spec.service needs a namespace and a name"
		}
	}
	r.Settings, _ = ParseSettings(o.Annotations, nil)
	if r.Group == "" && r.Version != "v1" {
		r.Invalid = "only v1 may have an empty group and it better be legacy kube"
	}
	if want := r.Version + "." + r.Group; r.Name != want || r.Version == "" {
		r.Invalid = fmt.Sprintf("must be `spec.version+\".\"+spec.group`: %q", want)
	}
	return r
}

// GroupVersion is the path that the registration claims.
func (r Registration) GroupVersion() schema.GroupVersion {
	return schema.GroupVersion{Group: r.Group, Version: r.Version}
}

// Path is the claimed path prefix without a trailing slash.
func (r Registration) Path() string {
	if r.Name == LegacyName {
		return "/api"
	}
	return "/apis/" + r.Group + "/" + r.Version
}

// DiscoveryPath is the path that an extension server must answer with 2xx to
// be available.
func (r Registration) DiscoveryPath() string {
	if r.Name == LegacyName {
		return "/api/" + r.Version
	}
	return r.Path()
}

// BackendID tells extension servers apart: registrations with the same ID share
// connections and downloads.
type BackendID struct {
	Service  ServiceRef
	CA       [sha256.Size]byte
	Insecure bool
	// Endpoints are those of the annotation, joined.
	Endpoints string
}

func (r Registration) backendID() BackendID {
	return BackendID{
		Service: r.Service, CA: r.ca, Insecure: r.InsecureSkipTLSVerify,
		Endpoints: strings.Join(r.Settings.Endpoints, ","),
	}
}

// SameBackend says whether both lead to the same extension server in the same
// way.
func (r Registration) SameBackend(other Registration) bool {
	return r.Local == other.Local && r.backendID() == other.backendID()
}

// Status is the value of a condition: True, False or Unknown.
type Status = apiregistrationv1.ConditionStatus

// Verdict is what this server itself holds of an APIService's availability.
type Verdict struct {
	Status  Status
	Reason  string
	Message string
}

// Blob is a downloaded document as bytes. The zero Blob means none is known.
type Blob struct {
	ETag string
	Data []byte
}

// Document is what is known of one APIService's discovery and OpenAPI,
// confined to its own group version.
type Document struct {
	// Discovery is nil until a first download succeeded.
	Discovery *apidiscoveryv2.APIVersionDiscovery
	// Stale is true when the latest attempt at Discovery failed.
	Stale bool
	// Problem says why the latest attempt failed; empty when it did not.
	Problem string
	// Warning says what of Discovery is not as it should be, though its meaning is
	// clear; empty when all is.
	Warning string
	// OpenAPIV2 holds only the paths below the group version, as JSON.
	OpenAPIV2 Blob
	// OpenAPIV3 is the group version's document, as JSON.
	OpenAPIV3 Blob
}

// ServiceFacts is a Service with its EndpointSlices. Service is nil when the
// Service does not exist; Err and SlicesErr are set when they cannot be read.
type ServiceFacts struct {
	Service   *corev1.Service
	Slices    []*discoveryv1.EndpointSlice
	Err       error
	SlicesErr error
}

// Addressing says how a Service with a cluster IP is reached.
type Addressing int

const (
	// WhatWorks sends to the Service's endpoints, and to its cluster IP while
	// none of them can be reached from here.
	WhatWorks Addressing = iota
	// ClusterIP sends to the Service's own address.
	ClusterIP
	// EndpointAddresses sends to the Service's endpoints.
	EndpointAddresses
)

// Facts is everything that a snapshot is built from. Values are never changed
// once they are handed to Build.
type Facts struct {
	// Registrations by APIService name.
	Registrations map[string]Registration
	// Services by namespace and name; only those that a registration names.
	// Nil means that this host knows no Services and a resolver stands in.
	Services map[types.NamespacedName]ServiceFacts
	// Addressing is used for Services; a resolver overrides it.
	Addressing Addressing
	// Zone is this server's own; empty where that is not known.
	Zone string
	// Resolver is true when an embedder's resolver finds the endpoints.
	Resolver bool
	// Self is this server's own host:port, for default/kubernetes:443.
	Self string
	// ReservedGroups are always answered locally.
	ReservedGroups []string
	// Verdicts by APIService name, from probes.
	Verdicts map[string]Verdict
	// Documents by APIService name, from downloads.
	Documents map[string]Document
	// WatchLists by APIService name, from watches that were tried.
	WatchLists map[string]WatchListSupport
}

func hostPort(host string, port int32) string {
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}
