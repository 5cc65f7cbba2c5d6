// Code generated from faults.yaml by go generate ./diagnosis. DO NOT EDIT.

package diagnosis

// The faults that can be named.
const (
	// APIServiceNotFound: there is no such APIService.
	APIServiceNotFound Code = "ANX101"
	// ServiceNotFound: the Service that the APIService leads to does not exist.
	ServiceNotFound Code = "ANX102"
	// ServicePortError: the Service does not listen on the port that the APIService names.
	ServicePortError Code = "ANX103"
	// GroupVersionClaimedTwice: two extension servers claim one group version.
	GroupVersionClaimedTwice Code = "ANX104"
	// WebhookRegisteredAsAPI: an admission webhook is registered as an API.
	WebhookRegisteredAsAPI Code = "ANX105"
	// CustomResourcesHidden: the APIService hides custom resources of the same group version.
	CustomResourcesHidden Code = "ANX106"
	// ServiceAccessError: the API server cannot read the Service.
	ServiceAccessError Code = "ANX107"
	// MissingEndpoints: no Pod of the extension server is ready.
	MissingEndpoints Code = "ANX201"
	// EndpointsNotFound: the Service has no endpoints at all.
	EndpointsNotFound Code = "ANX202"
	// KubeletCertificateNotTrusted: the extension server does not trust the kubelets' certificates.
	KubeletCertificateNotTrusted Code = "ANX203"
	// EndpointsAccessError: the API server cannot read the Service's endpoints.
	EndpointsAccessError Code = "ANX204"
	// EndpointEjected: a replica is left out.
	EndpointEjected Code = "ANX205"
	// EndpointUnreachable: a replica cannot be reached.
	EndpointUnreachable Code = "ANX206"
	// NodeLost: an endpoint is on a node that is lost.
	NodeLost Code = "ANX207"
	// ControlPlaneBlocked: a firewall keeps the control plane from the extension server's port.
	ControlPlaneBlocked Code = "ANX301"
	// PortChanged: the extension server moved to a port that a firewall does not know.
	PortChanged Code = "ANX302"
	// NoWayToPodNetwork: the API server's host has no way to Services and Pods.
	NoWayToPodNetwork Code = "ANX303"
	// NetworkPolicyBlocks: a NetworkPolicy keeps the API server out.
	NetworkPolicyBlocks Code = "ANX304"
	// AddressNotAllowed: the managed control plane does not know the Pod's address.
	AddressNotAllowed Code = "ANX305"
	// ProxyInTheWay: kube-apiserver sends requests for the extension server to an HTTP proxy.
	ProxyInTheWay Code = "ANX306"
	// NoKonnectivityAgent: no konnectivity agent is connected to this API server.
	NoKonnectivityAgent Code = "ANX307"
	// NoRouteToHost: a host's firewall or routes refuse the way to the Pod.
	NoRouteToHost Code = "ANX308"
	// CrossNodeTrafficLost: packets between nodes are lost.
	CrossNodeTrafficLost Code = "ANX309"
	// ConnectionRefused: nothing listens at the Pod's port.
	ConnectionRefused Code = "ANX310"
	// ConnectionReset: something on the way resets connections.
	ConnectionReset Code = "ANX311"
	// HostNotResolved: the API server's host cannot resolve the Service's name.
	HostNotResolved Code = "ANX312"
	// APIServerUnreachableFromPod: the extension server cannot reach the API server.
	APIServerUnreachableFromPod Code = "ANX313"
	// CABundleMismatch: the APIService does not trust the serving certificate.
	CABundleMismatch Code = "ANX401"
	// CABundleOverwritten: another tool strips or resets caBundle.
	CABundleOverwritten Code = "ANX402"
	// ServingCertificateExpired: the serving certificate is not valid at this time.
	ServingCertificateExpired Code = "ANX403"
	// ServingCertificateNames: the serving certificate is for other names.
	ServingCertificateNames Code = "ANX404"
	// ServingCertificateLacksNames: the serving certificate has no subject alternative name.
	ServingCertificateLacksNames Code = "ANX405"
	// ServingCertificateExpiring: the serving certificate, or its authority, is about to expire.
	ServingCertificateExpiring Code = "ANX406"
	// InvalidCABundle: caBundle holds no certificate.
	InvalidCABundle Code = "ANX407"
	// ClockSkew: clocks differ.
	ClockSkew Code = "ANX408"
	// NotTLS: the extension server does not speak TLS at this port.
	NotTLS Code = "ANX409"
	// TLSNotVerified: the extension server's certificate is not verified.
	TLSNotVerified Code = "ANX410"
	// CABundleExpired: the authority in caBundle has expired.
	CABundleExpired Code = "ANX411"
	// FrontProxyNotTrusted: the extension server does not trust the API server's proxy certificate.
	FrontProxyNotTrusted Code = "ANX501"
	// FrontProxyCertificateExpired: the API server's proxy certificate has expired.
	FrontProxyCertificateExpired Code = "ANX502"
	// FrontProxyNameNotAllowed: the proxy certificate's name is not among those allowed.
	FrontProxyNameNotAllowed Code = "ANX503"
	// RequestHeaderNotConfigured: the API server is not set up for aggregation.
	RequestHeaderNotConfigured Code = "ANX504"
	// FrontProxyIdentityUsed: requests arrive in the proxy's name, not in the user's.
	FrontProxyIdentityUsed Code = "ANX505"
	// AnonymousRefused: the extension server takes the API server for nobody.
	AnonymousRefused Code = "ANX506"
	// AuthenticationReaderMissing: the extension server may not read how the API server authenticates.
	AuthenticationReaderMissing Code = "ANX507"
	// AuthDelegatorMissing: the extension server may not ask who is allowed what.
	AuthDelegatorMissing Code = "ANX508"
	// InformerRightsMissing: the extension server waits for what it may not watch.
	InformerRightsMissing Code = "ANX509"
	// FrontProxyCertificateExpiring: the API server's proxy certificate is about to expire.
	FrontProxyCertificateExpiring Code = "ANX510"
	// FailedDiscoveryCheck: the API server's check of the extension server fails.
	FailedDiscoveryCheck Code = "ANX601"
	// GroupVersionNotServed: the extension server does not serve this group version.
	GroupVersionNotServed Code = "ANX602"
	// AnsweredByAnother: something else answers in the extension server's place.
	AnsweredByAnother Code = "ANX603"
	// NoResources: the extension server serves no resource.
	NoResources Code = "ANX604"
	// DiscoveryStale: discovery of the group version is stale.
	DiscoveryStale Code = "ANX605"
	// ServerStarting: the extension server is just starting.
	ServerStarting Code = "ANX606"
	// SlowDiscovery: the extension server answers slowly or not at all.
	SlowDiscovery Code = "ANX607"
	// RequestTimeout: long requests are cut off.
	RequestTimeout Code = "ANX608"
	// ProtobufRefused: the extension server does not fall back from protobuf to JSON.
	ProtobufRefused Code = "ANX609"
	// ServerSideApplyFails: the extension server cannot apply.
	ServerSideApplyFails Code = "ANX610"
	// StorageDown: the extension server's storage fails, or its replicas disagree.
	StorageDown Code = "ANX611"
	// TooManyRequests: the extension server has as many requests as it may.
	TooManyRequests Code = "ANX612"
	// DiscoveryWarning: the list of resources is not as it should be.
	DiscoveryWarning Code = "ANX613"
	// DiscoveryFailed: the API server does not know the extension server's resources.
	DiscoveryFailed Code = "ANX614"
	// WatchListMissing: watches never end their initial events.
	WatchListMissing Code = "ANX701"
	// OpenAPIMissing: the extension server has no OpenAPI document.
	OpenAPIMissing Code = "ANX702"
	// OpenAPIBroken: the extension server's OpenAPI breaks that of the whole cluster.
	OpenAPIBroken Code = "ANX703"
	// OpenAPIFailed: the extension server's OpenAPI document cannot be used.
	OpenAPIFailed Code = "ANX704"
	// OpenAPIStale: the OpenAPI document is that of an earlier download.
	OpenAPIStale Code = "ANX705"
	// NamespacesStuck: namespaces cannot be deleted.
	NamespacesStuck Code = "ANX801"
	// AutoscalersBlind: autoscalers get no metrics.
	AutoscalersBlind Code = "ANX802"
	// DiscoveryIncomplete: tools that ask for all APIs fail.
	DiscoveryIncomplete Code = "ANX803"
	// ServersDisagree: API servers see the extension server differently.
	ServersDisagree Code = "ANX804"
	// AvailabilityFlaps: the APIService becomes unavailable again and again.
	AvailabilityFlaps Code = "ANX805"
	// ControllersHeldUp: controllers of the cluster are held up.
	ControllersHeldUp Code = "ANX806"
)
