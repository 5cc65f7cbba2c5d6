package diagnosis

import (
	"testing"
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

// scenario is a fault: what is changed in a healthy cluster, and what must be found.
type scenario struct {
	name       string
	code       Code
	confidence Confidence
	// evidence and remedy are parts of the finding's.
	evidence, remedy string
	change           func(*scene)
	// follows says that another finding is the root; else this one must be the first.
	follows bool
}

// scenarios have at least one for each fault, in the order of faults.yaml.
func scenarios() []scenario {
	ca := testAuthorities()
	hosts := []string{"widgets.shop.svc"}
	return []scenario{
		{"misspelt", APIServiceNotFound, Certain, "did you mean v1.widgets.example.com", "kubectl get apiservices v1.widgets.example.com", func(s *scene) {
			s.name = "v1.widget.example.com"
		}, false},
		{"unlike any", APIServiceNotFound, Certain, `no APIService "nothing"`, "kubectl get apiservices", func(s *scene) { s.name = "nothing" }, false},
		{"left behind by an uninstall", ServiceNotFound, Certain, "there is not even namespace shop", "kubectl delete apiservice " + apiService, func(s *scene) {
			s.condition("False", "ServiceNotFound", `service/widgets in "shop" is not present`)
			s.a.Service, s.a.Namespace = Saw[*corev1.Service](nil), Saw[*corev1.Namespace](nil)
		}, false},
		{"renamed", ServiceNotFound, Certain, "the namespace has widgets-api", `"name":"widgets-api"`, func(s *scene) {
			s.condition("False", "ServiceNotFound", `service/widgets in "shop" is not present`)
			s.a.Service, s.a.SimilarServices = Saw[*corev1.Service](nil), Saw([]string{"widgets-api"})
		}, false},
		{"may not read Services", ServiceNotFound, Certain, "is not present", "kubectl delete apiservice", func(s *scene) {
			s.condition("False", "ServiceNotFound", `service/widgets in "shop" is not present`)
			s.a.Service = Unseen[*corev1.Service](ErrForbidden)
		}, false},
		{"another port", ServicePortError, Certain, "names port 443, and Service shop/widgets has 8443", `"port":8443`, func(s *scene) {
			s.condition("False", "ServicePortError", `service/widgets in "shop" is not listening on port 443`)
			s.servicePort().Port = 8443
		}, false},
		{"two adapters", GroupVersionClaimedTwice, Likely, "Deployment keda/keda-metrics serves group widgets.example.com too", "the other is keda/keda-metrics", func(s *scene) {
			s.Cluster.Adapters = Saw([]Adapter{
				{"shop", "widgets", "Widgets", []string{"widgets.example.com"}, []string{"widgets"}},
				{"keda", "keda-metrics", "KEDA", []string{"widgets.example.com"}, []string{"keda-metrics"}},
			})
		}, false},
		{"a webhook", WebhookRegisteredAsAPI, Certain, "ValidatingWebhookConfiguration/widgets leads to Service shop/widgets too", "kubectl delete apiservice " + apiService, func(s *scene) {
			s.badStatus("404")
			s.Cluster.Webhooks = Saw([]Webhook{{"ValidatingWebhookConfiguration/widgets", "shop", "widgets", 443, "/validate"}})
		}, false},
		{"a CRD of the same group version", CustomResourcesHidden, Certain, "widgets.widgets.example.com", "kubectl get crd widgets.widgets.example.com", func(s *scene) {
			s.Cluster.CustomResources = Saw([]CustomResource{{"widgets.widgets.example.com", "widgets.example.com", "v1"}})
		}, false},
		{"cannot read Services", ServiceAccessError, Certain, "cannot be checked", "kubectl get --raw '/readyz?verbose'", func(s *scene) {
			s.condition("Unknown", "ServiceAccessError", `service/widgets in "shop" cannot be checked due to: broken`)
		}, false},

		{"crash loop", MissingEndpoints, Certain, `Pod widgets-1 waits: CrashLoopBackOff, 7 restarts; its log ends "panic: no such file"`, "kubectl -n shop describe pod widgets-1", func(s *scene) {
			s.unready("starting", "panic: no such file")
			s.a.Pods.Value[0].Object.Status.ContainerStatuses = []corev1.ContainerStatus{{
				RestartCount: 7, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}},
			}}
		}, false},
		{"image", MissingEndpoints, Certain, "waits: ImagePullBackOff (no such image)", "kubectl -n shop describe pod widgets-2", func(s *scene) {
			s.unready()
			s.a.Pods.Value[1].Object.Status.ContainerStatuses = []corev1.ContainerStatus{{
				State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff", Message: "no such image"}},
			}}
		}, false},
		{"scaled to none", MissingEndpoints, Certain, "Deployment widgets is scaled to 0", "kubectl -n shop scale deployment/widgets --replicas=1", func(s *scene) {
			s.unready()
			s.a.Pods, s.a.Workloads.Value[0].Desired = Saw([]Pod{}), 0
			s.a.EndpointSlices.Value[0].Endpoints = nil
		}, false},
		{"not scheduled", MissingEndpoints, Certain, "0/3 nodes are available", "describe pod", func(s *scene) {
			s.unready()
			s.a.Pods.Value[0].Object.Status.Conditions = append(s.a.Pods.Value[0].Object.Status.Conditions,
				corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Message: "0/3 nodes are available"})
		}, false},
		{"Pods forbidden by quota", MissingEndpoints, Certain, "exceeded quota", "rollout status deployment/widgets", func(s *scene) {
			s.unready()
			s.a.Pods, s.a.Workloads.Value[0].Problem = Saw([]Pod{}), "pods is forbidden: exceeded quota"
		}, false},
		{"may not read EndpointSlices", MissingEndpoints, Certain, "have no addresses", "describe pod", func(s *scene) {
			s.unready()
			s.a.EndpointSlices, s.a.Pods = Unseen[[]discoveryv1.EndpointSlice](ErrForbidden), Unseen[[]Pod](ErrForbidden)
		}, false},
		{"a selector that selects nothing", EndpointsNotFound, Certain, `{"app":"widgets"}`, "kubectl -n shop get pods --show-labels", func(s *scene) {
			s.condition("False", "EndpointsNotFound", "cannot find endpointslices")
			s.a.EndpointSlices, s.a.Pods, s.a.Workloads = Saw([]discoveryv1.EndpointSlice{}), Saw([]Pod{}), Saw([]Workload{})
		}, false},
		{"kubelet certificates", KubeletCertificateNotTrusted, Certain, "cannot validate certificate", "--kubelet-insecure-tls", func(s *scene) {
			s.unready(`"Failed to scrape node" err="Get \"https://10.0.0.4:10250/metrics/resource\": x509: cannot validate certificate for 10.0.0.4 because it doesn't contain any IP SANs"`)
		}, false},
		{"cannot read endpoints", EndpointsAccessError, Certain, "cannot be checked", "endpointslices -l kubernetes.io/service-name=widgets", func(s *scene) {
			s.condition("Unknown", "EndpointsAccessError", `service/widgets in "shop" cannot be checked due to: broken`)
		}, false},
		{"a replica ejected", EndpointEjected, Certain, "endpoint 10.1.0.2:8443 gets no requests (1/2 endpoints do): status 500", "kubectl -n shop delete pod widgets-2", func(s *scene) {
			s.annex(func(r *v1alpha1.RemoteAPIServiceStatus) {
				r.State, r.EndpointSummary = v1alpha1.Degraded, "1/2"
				r.Endpoints[1].State, r.Endpoints[1].LastError = v1alpha1.EndpointEjected, &v1alpha1.LastError{Message: "status 500"}
			})
		}, false},
		{"a replica unreachable, as Annex sees it", EndpointUnreachable, Certain, "i/o timeout", "kubectl -n shop delete pod widgets-2", func(s *scene) {
			s.annex(func(r *v1alpha1.RemoteAPIServiceStatus) {
				r.Endpoints[1].State, r.Endpoints[1].LastError = v1alpha1.EndpointUnreachable, &v1alpha1.LastError{Message: "i/o timeout"}
			})
		}, false},
		{"a replica unreachable, by the proxy", EndpointUnreachable, Likely, "i/o timeout", "kubectl get node two", func(s *scene) {
			s.a.Endpoints.Value[1].Proxied = Saw(Attempt{Failure: "dial tcp 10.1.0.2:8443: i/o timeout"})
		}, false},
		{"a lost node", NodeLost, Certain, "its node two does not", "kubectl taint node two node.kubernetes.io/out-of-service", func(s *scene) {
			s.Cluster.Nodes.Value[2].Ready = false
		}, false},

		{"firewall of a managed cluster", ControlPlaneBlocked, Certain, "does not reach port 8443", "gcloud compute firewall-rules create allow-widgets", func(s *scene) {
			s.timesOut(true)
			s.Cluster.Provider = Saw("GKE")
		}, false},
		{"firewall, port-forward forbidden", ControlPlaneBlocked, Likely, "the control plane of EKS", "aws ec2 authorize-security-group-ingress", func(s *scene) {
			s.timesOut(false)
			s.Cluster.Provider = Saw("EKS")
		}, false},
		{"firewall of one's own", ControlPlaneBlocked, Likely, "answers on its own node", "tcp dport 8443", func(s *scene) { s.timesOut(true) }, false},
		{"firewall, and no kubelet to ask", ControlPlaneBlocked, Likely, "answers when it is asked directly", "tcp dport 8443", func(s *scene) {
			s.timesOut(false)
			for i := range s.a.Endpoints.Value {
				s.a.Endpoints.Value[i].Direct = Saw(Attempt{GroupVersion: &Answer{Code: 401}})
			}
		}, false},
		{"a port that changed", PortChanged, Likely, "listened on port 443 before", "kubectl -n shop rollout undo deployment/widgets", func(s *scene) {
			s.timesOut(true)
			s.Cluster.Provider = Saw("EKS")
			s.a.Workloads.Value[0].EarlierPorts = []int32{443}
		}, false},
		{"firewall, by a probe Pod", ControlPlaneBlocked, Certain, "answers to a Pod of its namespace", "gcloud compute firewall-rules", func(s *scene) {
			s.timesOut(false)
			s.Cluster.Provider, s.a.Endpoints.Value[0].ProbePod = Saw("GKE"), Saw(Attempt{GroupVersion: &Answer{Code: 403}})
		}, false},
		{"a cluster IP that leads nowhere, by a probe Pod", NoWayToPodNetwork, Likely, "not the Service's cluster IP: Connection timed out", "hostNetwork", func(s *scene) {
			s.timesOut(false)
			s.a.Endpoints.Value[0].ProbePod = Saw(Attempt{GroupVersion: &Answer{Code: 403}})
			s.a.ServiceFromPod = Saw(Attempt{Failure: "Connection timed out after 5001 milliseconds"})
		}, false},
		{"no overlay at the API server", NoWayToPodNetwork, Certain, "network is unreachable", "--enable-aggregator-routing=true", func(s *scene) {
			s.fails("dial tcp 10.96.0.7:443: connect: network is unreachable")
		}, false},
		{"no kube-proxy at the API server", NoWayToPodNetwork, Likely, "kube-proxy does not run on cp", "hostNetwork", func(s *scene) {
			s.timesOut(true)
			s.Cluster.DaemonSets.Value[0].NotReadyOn = []string{"cp"}
		}, false},
		{"a NetworkPolicy", NetworkPolicyBlocks, Certain, "NetworkPolicy deny", `"port":8443`, func(s *scene) {
			s.timesOut(true)
			s.a.NetworkPolicies = Saw([]networkingv1.NetworkPolicy{{ObjectMeta: metav1.ObjectMeta{Name: "deny"}}})
		}, false},
		{"a NetworkPolicy for Pods only", NetworkPolicyBlocks, Likely, "NetworkPolicy pods", `"matchLabels":{"app":"widgets"}`, func(s *scene) {
			s.timesOut(false)
			s.a.NetworkPolicies = Saw([]networkingv1.NetworkPolicy{{ObjectMeta: metav1.ObjectMeta{Name: "pods"}, Spec: networkingv1.NetworkPolicySpec{
				PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{"app": "widgets"}},
				Ingress:     []networkingv1.NetworkPolicyIngressRule{{From: []networkingv1.NetworkPolicyPeer{{NamespaceSelector: &metav1.LabelSelector{}}}}},
			}}})
		}, false},
		{"addresses outside the VPC", AddressNotAllowed, Certain, "Address is not allowed", `"hostNetwork":true`, func(s *scene) { s.fails("Address is not allowed") }, false},
		{"a proxy that refuses", ProxyInTheWay, Certain, "proxyconnect", "NO_PROXY of kube-apiserver: 10.96.0.0/12", func(s *scene) {
			s.fails("proxyconnect tcp: dial tcp 192.0.2.8:3128: connect: connection refused")
		}, false},
		{"a proxy that swallows", ProxyInTheWay, Likely, "HTTPS_PROXY", "NO_PROXY", func(s *scene) {
			s.timesOut(true)
			s.Cluster.APIServerPods.Value[0].Proxy = map[string]string{"HTTPS_PROXY": "http://192.0.2.8:3128", "NO_PROXY": "localhost"}
		}, false},
		{"konnectivity", NoKonnectivityAgent, Certain, "of 3 agents 0 are ready", "rollout restart daemonset/konnectivity-agent", func(s *scene) {
			s.fails("error trying to reach service: No agent available")
			s.Cluster.DaemonSets = Saw([]DaemonSet{{Name: "konnectivity-agent", Desired: 3}})
		}, false},
		{"firewalld", NoRouteToHost, Certain, "no route to host", "--add-port=8443/tcp", func(s *scene) { s.fails("dial tcp 10.96.0.7:443: connect: no route to host") }, false},
		{"across nodes only", CrossNodeTrafficLost, Likely, "on its own node one", "ethtool -K flannel.1", func(s *scene) {
			s.timesOut(true)
			s.Cluster.APIServerPods.Value[0].Node = "one"
			s.a.Endpoints.Value[0].Proxied = Saw(Attempt{GroupVersion: &Answer{Code: 403}})
		}, false},
		{"target port", ConnectionRefused, Certain, "leads to the Pods' port 9443; the Pods name 8443 https", `"/spec/ports/0/targetPort","value":8443`, func(s *scene) {
			s.fails("dial tcp 10.96.0.7:443: connect: connection refused")
			s.servicePort().TargetPort = intstr.FromInt32(9443)
			s.a.EndpointSlices.Value[0].Ports[0].Port = new(int32(9443))
		}, false},
		{"nobody at a name outside of the cluster", ConnectionRefused, Certain, "leads out of the cluster, to widgets.example.net:443", "curl -sk 'https://widgets.example.net:443/apis/widgets.example.com/v1'", func(s *scene) {
			s.fails("dial tcp 192.0.2.7:443: connect: connection refused")
			s.outside()
			s.a.Service.Value.Spec = corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "widgets.example.net"}
			s.a.EndpointSlices = Saw([]discoveryv1.EndpointSlice{})
		}, false},
		{"nobody at an address outside of the cluster", ConnectionRefused, Certain, "leads out of the cluster, to 10.1.0.1:8443", "curl -sk 'https://10.1.0.1:8443/apis/widgets.example.com/v1'", func(s *scene) {
			s.fails("dial tcp 10.1.0.1:8443: connect: connection refused")
			s.outside()
			s.a.Service.Value.Spec.Selector = nil
		}, false},
		{"target port by a name that no Pod has", ConnectionRefused, Certain, `called "api"`, `"value":8443`, func(s *scene) {
			s.unready()
			s.a.EndpointSlices = Unseen[[]discoveryv1.EndpointSlice](ErrForbidden)
			s.condition("False", "FailedDiscoveryCheck", "no such port")
			s.servicePort().TargetPort = intstr.FromString("api")
		}, false},
		{"mesh", ConnectionReset, Likely, "sidecar linkerd-proxy", "skip-inbound-ports", func(s *scene) {
			s.fails("read tcp 10.96.0.7:443: read: connection reset by peer")
			spec := &s.a.Pods.Value[0].Object.Spec
			spec.Containers = append(spec.Containers, corev1.Container{Name: "linkerd-proxy"})
		}, false},
		{"DNS", HostNotResolved, Certain, "no such host", "cat /etc/resolv.conf", func(s *scene) { s.fails("dial tcp: lookup widgets.shop.svc on 10.0.0.2:53: no such host") }, false},
		{"no way to the API server", APIServerUnreachableFromPod, Certain, "on node one", `"policyTypes":["Egress"]`, func(s *scene) {
			s.unready(`Get "https://10.96.0.1:443/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication": dial tcp 10.96.0.1:443: i/o timeout`)
			s.a.Pods.Value = s.a.Pods.Value[:1]
		}, false},

		{"another authority", CABundleMismatch, Certain, "issued by CN=other-ca", "get secret widgets-tls", func(s *scene) {
			s.fails("x509: certificate signed by unknown authority")
			s.shows(issue(ca.other, testcerts.Subject{Name: "widgets", Hosts: hosts}))
		}, false},
		{"another authority, seen by the condition alone", CABundleMismatch, Certain, "caBundle is CN=widgets-ca", "caBundle", func(s *scene) {
			s.fails("x509: certificate signed by unknown authority")
			s.a.Endpoints = Unseen[[]Endpoint](ErrForbidden)
		}, false},
		{"GitOps", CABundleOverwritten, Likely, "last written by argocd-controller", "ignoreDifferences", func(s *scene) {
			s.fails("x509: certificate signed by unknown authority")
			s.shows(issue(ca.other, testcerts.Subject{Name: "widgets", Hosts: hosts}))
			s.wrote("argocd-controller", time.Minute)
		}, false},
		{"two writers", CABundleOverwritten, Likely, "written by helm", "--show-managed-fields", func(s *scene) {
			s.fails("x509: certificate signed by unknown authority")
			s.wrote("cainjector", time.Hour)
			s.wrote("helm", time.Minute)
		}, false},
		{"stripped", CABundleOverwritten, Likely, "caBundle is empty, and annotation cert-manager.io/inject-ca-from", "leave .spec.caBundle alone", func(s *scene) {
			s.fails("x509: certificate signed by unknown authority")
			s.object().Spec.CABundle = nil
			s.object().Annotations = map[string]string{"cert-manager.io/inject-ca-from": "shop/widgets"}
		}, false},
		{"expired", ServingCertificateExpired, Certain, "expired at", "kubectl -n shop rollout restart deployment/widgets", func(s *scene) {
			s.fails("x509: certificate has expired or is not yet valid: current time 2026-11-01T00:00:00Z is after 2026-10-01T00:00:00Z")
			s.shows(issue(ca.own, testcerts.Subject{Name: "widgets", Hosts: hosts, NotBefore: s.Now.Add(-48 * time.Hour), NotAfter: s.Now.Add(-24 * time.Hour)}))
		}, false},
		{"not yet valid", ServingCertificateExpired, Certain, "is valid from", "delete secret widgets-tls", func(s *scene) {
			s.fails("x509: certificate has expired or is not yet valid")
			s.shows(issue(ca.own, testcerts.Subject{Name: "widgets", Hosts: hosts, NotBefore: s.Now.Add(2 * time.Hour)}))
		}, false},
		{"expired by the API server's clock", ServingCertificateExpired, Certain, "expired at", "restart", func(s *scene) {
			s.Cluster.ClockSkew = Saw(20 * time.Hour)
			s.shows(issue(ca.own, testcerts.Subject{Name: "widgets", Hosts: hosts, NotAfter: s.Now.Add(10 * time.Hour)}))
		}, false},
		{"other names", ServingCertificateNames, Certain, "asks for widgets.shop.svc", `"name":"gadgets"`, func(s *scene) {
			s.fails("x509: certificate is valid for gadgets.shop.svc, not widgets.shop.svc")
			s.shows(issue(ca.own, testcerts.Subject{Name: "gadgets", Hosts: []string{"gadgets.shop.svc"}}))
		}, false},
		{"no names", ServingCertificateLacksNames, Certain, "without a subject alternative name", "subjectAltName=DNS:widgets.shop.svc", func(s *scene) {
			s.fails("x509: certificate relies on legacy Common Name field, use SANs instead")
			s.shows(issue(ca.own, testcerts.Subject{Name: "widgets.shop.svc"}))
		}, false},
		{"about to expire", ServingCertificateExpiring, Certain, "in 3 hours", "get secret widgets-tls", func(s *scene) {
			s.shows(issue(ca.own, testcerts.Subject{Name: "widgets", Hosts: hosts, NotBefore: s.Now.Add(-1000 * time.Hour), NotAfter: s.Now.Add(3*time.Hour + time.Minute)}))
		}, false},
		{"front proxy about to expire", FrontProxyCertificateExpiring, Certain, "the API server's proxy certificate", "kubeadm certs renew front-proxy-client", func(s *scene) {
			s.Cluster.FrontProxy = Saw(issue(ca.proxy, testcerts.Subject{Name: "front-proxy-client", NotBefore: s.Now.Add(-1000 * time.Hour), NotAfter: s.Now.Add(time.Hour)}))
		}, false},
		{"an authority that ended", CABundleExpired, Certain, "which expired at", "get secret widgets-tls", func(s *scene) {
			s.fails("x509: certificate has expired or is not yet valid")
			s.shows(issue(ca.own, testcerts.Subject{Name: "widgets", Hosts: hosts, NotAfter: s.Now.Add(1000 * time.Hour)}))
			s.Now = s.Now.Add(30 * time.Hour)
		}, false},
		{"an authority that ended, by the bundle alone", CABundleExpired, Certain, "caBundle is CN=widgets-ca", "openssl", func(s *scene) {
			s.a.Endpoints = Known[[]Endpoint]{}
			s.Now = s.Now.Add(30 * time.Hour)
		}, false},
		{"encoded twice", InvalidCABundle, Certain, "no PEM block", "base64 -d", func(s *scene) {
			s.fails("unable to load root certificates: unable to parse bytes as PEM block")
			s.object().Spec.CABundle = []byte("LS0tLS1CRUdJTi")
		}, false},
		{"clocks", ClockSkew, Certain, "24h0m0s behind", "timedatectl", func(s *scene) {
			s.Cluster.ClockSkew = Saw(-24 * time.Hour)
			s.a.Endpoints = Unseen[[]Endpoint](ErrForbidden)
			s.object().Spec.CABundle = nil
		}, false},
		{"plain HTTP", NotTLS, Certain, "HTTP response to HTTPS client", "kubectl -n shop get pod widgets-1", func(s *scene) {
			s.fails("http: server gave HTTP response to HTTPS client")
		}, false},
		{"not verified", TLSNotVerified, Certain, "insecureSkipTLSVerify", "caBundle", func(s *scene) {
			s.object().Spec.InsecureSkipTLSVerify, s.object().Spec.CABundle = true, nil
		}, false},

		{"front-proxy CA replaced", FrontProxyNotTrusted, Certain, "was replaced at", "rollout restart deployment/widgets", func(s *scene) {
			s.badStatus("401")
			s.logs(`E1128 "Unable to authenticate the request" err="[x509: certificate signed by unknown authority (possibly because of \"x509: ECDSA verification failure\" while trying to verify candidate authority certificate \"front-proxy-ca\")]"`)
			s.Cluster.RequestHeader.Value.Changed = s.Now.Add(-time.Hour)
		}, false},
		{"front-proxy CA not asked for", FrontProxyNotTrusted, Certain, "asks for client certificates of other authorities", "restart", func(s *scene) {
			s.badStatus("401")
			s.Cluster.RequestHeader.Value.RequestHeaderClientCA = parse(ca.other.PEM)
		}, false},
		{"401 alone", FrontProxyNotTrusted, Likely, "answers 401", "restart", func(s *scene) { s.badStatus("401") }, false},
		{"front-proxy certificate expired", FrontProxyCertificateExpired, Likely, "certificate has expired", "kubeadm certs renew front-proxy-client", func(s *scene) {
			s.badStatus("401")
			s.logs(`"Unable to authenticate the request" err="x509: certificate has expired or is not yet valid: current time 2026-11-28T00:00:00Z is after 2026-11-01T00:00:00Z"`)
		}, false},
		{"front-proxy certificate expired, as Annex sees it", FrontProxyCertificateExpired, Certain, "proxy certificate expired at", "kubeadm", func(s *scene) {
			s.badStatus("401")
			s.annex(func(r *v1alpha1.RemoteAPIServiceStatus) {
				r.State = v1alpha1.Unavailable
				r.Certificates.FrontProxy = &v1alpha1.Certificate{Subject: "CN=front-proxy-client", NotAfter: metav1.Time{Time: s.Now.Add(-time.Hour)}}
			})
		}, false},
		{"name not allowed", FrontProxyNameNotAllowed, Certain, "cn=aggregator", "add aggregator to --requestheader-allowed-names", func(s *scene) {
			s.badStatus("401")
			s.logs(`Unable to authenticate the request due to an error: x509: subject with cn=aggregator is not in the allowed list: [front-proxy-client]`)
		}, false},
		{"name not allowed, by certificate", FrontProxyNameNotAllowed, Certain, `called "proxy"`, "add proxy to", func(s *scene) {
			s.badStatus("401")
			s.Cluster.FrontProxy = Saw(issue(ca.proxy, testcerts.Subject{Name: "proxy"}))
		}, false},
		{"no aggregation flags", RequestHeaderNotConfigured, Certain, "has no requestheader-client-ca-file", "--proxy-client-cert-file", func(s *scene) {
			s.unready("Error: cluster doesn't provide requestheader-client-ca-file in configmap/extension-apiserver-authentication in kube-system")
			s.Cluster.RequestHeader.Value.HasRequestHeaderClientCA, s.Cluster.RequestHeader.Value.RequestHeaderClientCA = false, nil
		}, false},
		{"proxy taken for a user", FrontProxyIdentityUsed, Certain, "hold the same authority", "authority of its own", func(s *scene) {
			s.Cluster.RequestHeader.Value.RequestHeaderClientCA = s.Cluster.RequestHeader.Value.ClientCA
			s.a.List = Saw(Answer{Path: "/apis/widgets.example.com/v1/widgets", Code: 403, Status: &metav1.Status{Message: `widgets is forbidden: User "front-proxy-client" cannot list resource "widgets"`}})
		}, false},
		{"anonymous", AnonymousRefused, Certain, "system:anonymous", "--serviceaccount=shop:widgets", func(s *scene) {
			s.fails(`bad status from https://10.96.0.7:443/apis/widgets.example.com/v1: 403 forbidden: User "system:anonymous" cannot get path "/apis/widgets.example.com/v1"`)
		}, false},
		{"403 alone", AnonymousRefused, Likely, "answers 403", "extension-apiserver-authentication-reader", func(s *scene) { s.badStatus("403") }, false},
		{"no RoleBinding", AuthenticationReaderMissing, Certain, "Unable to get configmap", "kubectl create rolebinding shop-widgets-auth-reader -n kube-system", func(s *scene) {
			s.unready("Error: Unable to get configmap/extension-apiserver-authentication in kube-system. Usually fixed by 'kubectl create rolebinding'")
			s.a.Rights[ReadAuthentication] = Saw(false)
		}, false},
		{"RoleBinding in the wrong namespace", AuthenticationReaderMissing, Certain, "RoleBinding shop/reader is in the wrong namespace", "-n kube-system", func(s *scene) {
			s.unready()
			s.a.Rights[ReadAuthentication], s.a.ReaderBindings = Saw(false), Saw([]string{"shop/reader"})
		}, false},
		{"no auth-delegator", AuthDelegatorMissing, Certain, "subjectaccessreviews", "--clusterrole=system:auth-delegator --serviceaccount=shop:widgets", func(s *scene) {
			s.a.Rights[ReviewAccess] = Saw(false)
			s.a.List = Saw(Answer{Code: 500, Status: &metav1.Status{Message: `Internal error: subjectaccessreviews.authorization.k8s.io is forbidden: User "system:serviceaccount:shop:widgets" cannot create resource "subjectaccessreviews" in API group "authorization.k8s.io"`}})
		}, false},
		{"informers forbidden", InformerRightsMissing, Certain, "flowschemas", "--resource=flowschemas.flowcontrol.apiserver.k8s.io", func(s *scene) {
			s.unready(`failed to list *v1.FlowSchema: flowschemas.flowcontrol.apiserver.k8s.io is forbidden: User "system:serviceaccount:shop:widgets" cannot list resource`)
			s.a.Rights[WatchFlowSchemas] = Saw(false)
		}, false},
		{"informers possible", InformerRightsMissing, Possible, "fairness or admission waits for", "clusterrole", func(s *scene) {
			s.unready("still waiting")
			s.a.Rights[WatchFlowSchemas] = Saw(false)
		}, true},

		{"a failure like no other", FailedDiscoveryCheck, Certain, "False (FailedDiscoveryCheck)", "port-forward service/widgets 8443:443", func(s *scene) { s.fails("strange") }, false},
		{"an Annex that says no more", FailedDiscoveryCheck, Certain, "Annex says Unavailable (Strange): odd", "curl -sk", func(s *scene) {
			s.annex(func(r *v1alpha1.RemoteAPIServiceStatus) {
				r.State, r.Reason, r.Message = v1alpha1.Unavailable, "Strange", "odd"
			})
			s.object().Status.Conditions = nil
		}, false},
		{"404", GroupVersionNotServed, Certain, "it serves gadgets.example.com/v2", "# what it serves (gadgets.example.com/v2)", func(s *scene) {
			s.badStatus("404")
			s.a.Endpoints.Value[0].Forwarded.Value.Groups = &Answer{Code: 200, Body: []byte(`{"groups":[{"name":"gadgets.example.com","versions":[{"groupVersion":"gadgets.example.com/v2","version":"v2"}]}]}`)}
		}, false},
		{"503 though it answers", AnsweredByAnother, Likely, "is answered 503, and endpoint 10.1.0.1:8443 answers 403", "curl -ski", func(s *scene) { s.badStatus("503") }, false},
		{"HTML", AnsweredByAnother, Certain, "text/html; charset=utf-8, by server nginx", "curl -ski", func(s *scene) {
			s.badStatus("502")
			s.a.Endpoints.Value[0].Forwarded.Value.GroupVersion = &Answer{Code: 200, ContentType: "text/html; charset=utf-8", Server: "nginx"}
		}, false},
		{"no resources", NoResources, Certain, "empty list", "kubectl get --raw /apis/widgets.example.com/v1", func(s *scene) { s.a.Resources = Saw([]metav1.APIResource{}) }, false},
		{"stale discovery", DiscoveryStale, Certain, "what it knew", "kubectl wait", func(s *scene) { s.Cluster.Discovery.Value[0].Stale = true }, false},
		{"stale discovery, as Annex sees it", DiscoveryStale, Certain, "too large", "kubectl wait", func(s *scene) {
			s.annex(func(r *v1alpha1.RemoteAPIServiceStatus) {
				r.State, r.Discovery.Freshness, r.Discovery.Problem = v1alpha1.Degraded, v1alpha1.Stale, "the document is too large"
			})
		}, false},
		{"just started", ServerStarting, Likely, "started 20s ago", "kubectl wait --for=condition=Available --timeout=120s apiservice/" + apiService, func(s *scene) {
			s.unready()
			for i := range s.a.Pods.Value {
				s.a.Pods.Value[i].Object.Status.StartTime = &metav1.Time{Time: s.Now.Add(-20 * time.Second)}
			}
		}, false},
		{"frozen before its handshake", SlowDiscovery, Likely, "by port-forward, net/http: TLS handshake timeout", "rollout restart deployment/widgets", func(s *scene) {
			s.timesOut(true)
			s.a.Endpoints.Value[0].Forwarded = Saw(Attempt{TLSFailure: "net/http: TLS handshake timeout"})
		}, false},
		{"frozen before its handshake, by two ways", SlowDiscovery, Certain, "TLS handshake timeout", "rollout restart deployment/widgets", func(s *scene) {
			s.timesOut(true)
			s.a.Endpoints.Value[0].Forwarded = Saw(Attempt{TLSFailure: "net/http: TLS handshake timeout"})
			s.a.Endpoints.Value[0].ProbePod = Saw(Attempt{TLSFailure: "net/http: TLS handshake timeout"})
		}, false},
		{"frozen after its handshake", SlowDiscovery, Certain, "by port-forward, timed out", "rollout restart deployment/widgets", func(s *scene) {
			s.timesOut(true)
			s.a.Endpoints.Value[0].Forwarded.Value.GroupVersion = &Answer{Failure: "timed out"}
		}, false},
		{"frozen, and no kubelet to ask", SlowDiscovery, Likely, "from here, context deadline exceeded", "rollout restart", func(s *scene) {
			s.timesOut(false)
			s.a.Endpoints.Value[0].Direct = Saw(Attempt{TLSFailure: "context deadline exceeded"})
		}, false},
		{"a kubelet that is silent about all, and a control plane that is kept out", ControlPlaneBlocked, Likely, "the control plane of GKE gets no answer", "firewall", func(s *scene) {
			s.timesOut(false)
			s.Cluster.Provider = Saw("GKE")
			for i := range s.a.Endpoints.Value {
				s.a.Endpoints.Value[i].Forwarded = Saw(Attempt{TLSFailure: "timed out"})
				s.a.Pods.Value[i].Logs = Unseen[[]Log](ErrTimedOut)
			}
		}, false},
		{"slow, as the endpoint itself", SlowDiscovery, Certain, "took 4.2s; endpoint 10.1.0.1:8443 took as long", "top pod", func(s *scene) {
			s.a.GroupVersion.Value.Took = 4200 * time.Millisecond
			s.a.Endpoints.Value[0].Forwarded.Value.GroupVersion.Took = 4 * time.Second
		}, false},
		{"slow, while the API server is quick", SlowDiscovery, Likely, "took 4.2s; the API server's own answers are quick", "top pod", func(s *scene) {
			s.a.GroupVersion.Value.Took, s.a.OwnAnswer = 4200*time.Millisecond, Saw(Answer{Code: 200, Took: 20 * time.Millisecond})
		}, false},
		{"slow, as the API server is", SlowDiscovery, Possible, "the API server took 3.1s for an answer of its own", "top pod", func(s *scene) {
			s.a.GroupVersion.Value.Took, s.a.OwnAnswer = 4200*time.Millisecond, Saw(Answer{Code: 200, Took: 3100 * time.Millisecond})
		}, false},
		{"slow, and nothing to compare", SlowDiscovery, Possible, "took 4.2s", "top pod", func(s *scene) { s.a.GroupVersion.Value.Took = 4200 * time.Millisecond }, false},
		{"504", RequestTimeout, Likely, "answered 504 after 1m0s", "aggregation.annex.dev/request-timeout=5m", func(s *scene) {
			s.a.List = Saw(Answer{Path: "/apis/widgets.example.com/v1/widgets", Code: 504, Took: time.Minute, Status: &metav1.Status{Message: "request did not complete"}})
		}, false},
		{"504 of who knows whom", RequestTimeout, Possible, "answered 504 after 1m0s", "", func(s *scene) {
			s.a.List = Saw(Answer{Path: "/apis/widgets.example.com/v1/widgets", Code: 504, Took: time.Minute, ContentType: "text/html"})
		}, false},
		{"cut off in the log", RequestTimeout, Possible, "Timeout or abort", "CONNECT", func(s *scene) {
			s.a.List.Value.Code = 500
			s.a.APIServerLog = Saw(s.lines(0, `"Timeout or abort while handling" logger="UnhandledError" method="GET" URI="/apis/widgets.example.com/v1/widgets"`))
		}, false},
		{"406", ProtobufRefused, Certain, "answered 406", "protobuf", func(s *scene) { s.a.Protobuf.Value.Code = 406 }, false},
		{"apply", ServerSideApplyFails, Certain, "no kind", "without --server-side", func(s *scene) {
			s.a.Apply = Saw(Answer{Code: 500, Status: &metav1.Status{Message: `no kind "Widget" is registered for the internal version of group "widgets.example.com" in scheme`}})
		}, false},
		{"lists that come and go", StorageDown, Likely, "one had 3 objects and one had none", "readyz?verbose", func(s *scene) {
			s.a.Counts.Value = append(s.a.Counts.Value, Count{"widgets", 0, ""})
		}, false},
		{"etcd away", StorageDown, Certain, "etcd", "logs widgets-1", func(s *scene) {
			s.a.Endpoints.Value[0].Forwarded.Value.Readyz = &Answer{Code: 500, Body: []byte("[+]ping ok\n[-]etcd failed: reason withheld\n")}
		}, false},
		{"429", TooManyRequests, Likely, "answered 429: too many widgets", "max-in-flight=800", func(s *scene) {
			s.a.List.Value.Code, s.a.List.Value.Status = 429, &metav1.Status{Message: "too many widgets"}
		}, false},
		{"429 behind the API server's fairness", TooManyRequests, Certain, "by the extension server's own fairness", "max-in-flight=800", func(s *scene) {
			s.a.List.Value.Code, s.a.List.Value.PriorityLevels = 429, []string{"one", "two"}
		}, false},
		{"429 of the API server, perhaps", TooManyRequests, Possible, "as the API server's own fairness answers too", "max-in-flight=800", func(s *scene) {
			s.a.List.Value.Code, s.a.List.Value.PriorityLevels = 429, []string{"one"}
		}, false},
		{"429 of an endpoint", TooManyRequests, Certain, "endpoint 10.1.0.1:8443 answers 429", "max-in-flight=800", func(s *scene) {
			s.a.Endpoints.Value[0].Forwarded.Value.GroupVersion.Code = 429
		}, false},
		{"the limit reached", TooManyRequests, Certain, "400 requests are under way, 400 may be, and 12 wait", "scale deployment/widgets", func(s *scene) {
			s.annex(func(r *v1alpha1.RemoteAPIServiceStatus) { r.Limits.InFlight, r.Limits.Queued = 400, 12 })
		}, false},
		{"a warning of discovery", DiscoveryWarning, Certain, "no kind", "--raw", func(s *scene) {
			s.annex(func(r *v1alpha1.RemoteAPIServiceStatus) { r.Discovery.Warning = "resource widgets has no kind" })
		}, false},

		{"no list of resources", DiscoveryFailed, Certain, "malformed", "kubectl get --raw", func(s *scene) {
			s.annex(func(r *v1alpha1.RemoteAPIServiceStatus) {
				r.State, r.Discovery = v1alpha1.Degraded, v1alpha1.Discovery{Document: v1alpha1.Document{Freshness: v1alpha1.NeverFetched, Problem: "malformed"}}
			})
		}, false},
		{"no bookmark", WatchListMissing, Certain, "got 2 events in 10s, and no bookmark", "KUBE_FEATURE_WatchListClient=false", func(s *scene) {
			s.a.WatchList = Saw(WatchList{Resource: "widgets", Answer: Answer{Code: 200}, Events: 2, Waited: 10 * time.Second})
		}, false},
		{"no bookmark, as Annex sees it", WatchListMissing, Certain, "refuses such watches", "watch-list=refuse", func(s *scene) {
			s.annex(func(r *v1alpha1.RemoteAPIServiceStatus) { r.WatchList = "Missing" })
		}, false},
		{"no OpenAPI", OpenAPIMissing, Certain, "404", "kubectl explain --api-version=widgets.example.com/v1 widgets", func(s *scene) { s.a.OpenAPIV3.Value.Code = 404 }, false},
		{"no OpenAPI in the log", OpenAPIMissing, Likely, "loading OpenAPI spec", "explain", func(s *scene) {
			s.a.APIServerLog = Saw(s.lines(0, `loading OpenAPI spec for "v1.widgets.example.com" failed with: OpenAPI spec does not exist`))
		}, false},
		{"a reference to nowhere", OpenAPIBroken, Certain, "refers to com.example.Gone", "kubectl delete apiservice", func(s *scene) {
			s.Cluster.OpenAPIV2.Value.Dangling = []DanglingReference{{"com.example.Widget", "com.example.Gone", []string{"widgets.example.com"}}}
		}, false},
		{"a reference to nowhere, as Annex sees it", OpenAPIBroken, Certain, "so it is left out: the reference", "kubectl get --raw /openapi/v2", func(s *scene) {
			s.annex(func(r *v1alpha1.RemoteAPIServiceStatus) {
				r.OpenAPIV2 = v1alpha1.Document{Freshness: v1alpha1.NeverFetched, Problem: "the reference is to nowhere"}
				r.Faults = []v1alpha1.Fault{{Reason: "OpenAPIBroken", Message: "it is broken, so it is left out: the reference is to nowhere"}}
			})
		}, false},
		{"quarantined", OpenAPIFailed, Certain, "there is no OpenAPI v2: reference to nowhere", "status.openAPIV2.problem", func(s *scene) {
			s.annex(func(r *v1alpha1.RemoteAPIServiceStatus) {
				r.OpenAPIV2 = v1alpha1.Document{Freshness: v1alpha1.NeverFetched, Problem: "reference to nowhere"}
			})
		}, false},
		{"stale OpenAPI", OpenAPIStale, Certain, "connection refused", "/openapi/v3/apis/widgets.example.com/v1", func(s *scene) {
			s.annex(func(r *v1alpha1.RemoteAPIServiceStatus) {
				r.OpenAPIV3 = v1alpha1.Document{Freshness: v1alpha1.Stale, Problem: "dial tcp: connection refused"}
			})
		}, false},

		{"a namespace that cannot go", NamespacesStuck, Certain, "1 namespace cannot be deleted: old", "kubectl get namespace old", func(s *scene) {
			s.badStatus("500")
			s.Cluster.TerminatingNamespaces = Saw([]corev1.Namespace{{ObjectMeta: metav1.ObjectMeta{Name: "old"}, Status: corev1.NamespaceStatus{Conditions: []corev1.NamespaceCondition{{
				Type: corev1.NamespaceDeletionDiscoveryFailure, Status: corev1.ConditionTrue,
				Message: "Discovery failed for some groups, 1 failing: unable to retrieve the complete list of server APIs: widgets.example.com/v1: the server is currently unable to handle the request",
			}}}}})
		}, true},
		{"autoscalers", AutoscalersBlind, Certain, "1 HorizontalPodAutoscaler read from it: web/front", "kubectl get hpa -A", func(s *scene) {
			s.object().Spec.Group, s.object().Spec.Version = "metrics.k8s.io", "v1beta1"
			s.badStatus("500")
			s.Cluster.Autoscalers = Saw([]autoscalingv2.HorizontalPodAutoscaler{{
				ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: "front"},
				Spec:       autoscalingv2.HorizontalPodAutoscalerSpec{Metrics: []autoscalingv2.MetricSpec{{Type: autoscalingv2.ResourceMetricSourceType}}},
			}})
		}, true},
		{"Helm and GitOps", DiscoveryIncomplete, Certain, "Argo asks for all APIs", "kubectl api-resources --api-group=widgets.example.com", func(s *scene) {
			s.fails("strange but refused: connection refused")
			s.Cluster.CustomResources.Value = append(s.Cluster.CustomResources.Value, CustomResource{"applications.argoproj.io", "argoproj.io", "v1alpha1"})
		}, true},
		{"one API server cut off", ServersDisagree, Certain, "10.0.0.2:6443 says False", "between 10.0.0.2:6443 and", func(s *scene) {
			s.a.Views = Saw([]v1alpha1.View{{Server: "10.0.0.1:6443", Available: "True"}, {Server: "10.0.0.2:6443", Available: "False", Reason: "FailedDiscoveryCheck"}})
		}, false},
		{"one API server cut off, and this one does not know yet", ServersDisagree, Certain, "10.0.0.3:6443 says False", "between 10.0.0.3:6443 and", func(s *scene) {
			s.a.Views = Saw([]v1alpha1.View{{Server: "10.0.0.1:6443", Available: "Unknown"}, {Server: "10.0.0.2:6443", Available: "True"}, {Server: "10.0.0.3:6443", Available: "False"}})
		}, false},
		{"one API server cut off, in the condition", ServersDisagree, Certain, "unavailable to host-b", "between host-b:6443 and", func(s *scene) {
			s.condition("True", "Passed", "all checks passed (seen by host-a:6443; unavailable to host-b:6443: FailedDiscoveryCheck)")
		}, false},
		{"flapping", AvailabilityFlaps, Certain, "9 times in 2h0m0s, mostly for FailedDiscoveryCheck", "get pods -o wide", func(s *scene) {
			s.a.Outages = Saw(Outages{map[string]int64{"FailedDiscoveryCheck": 7, "MissingEndpoints": 2}, 2 * time.Hour})
		}, false},
		{"controllers that wait", ControllersHeldUp, Likely, "resource quota controller", "kube-controller-manager", func(s *scene) {
			s.a.WatchList = Saw(WatchList{Resource: "widgets", Answer: Answer{Code: 200}, Waited: 10 * time.Second})
		}, true},
		{"a fault that Annex alone knows", ServingCertificateExpiring, Certain, "Annex says: in two days", "kubectl", func(s *scene) {
			s.annex(func(r *v1alpha1.RemoteAPIServiceStatus) {
				r.Faults = []v1alpha1.Fault{{Reason: "ServingCertificateExpiring", Message: "in two days"}}
			})
		}, false},
		{"in a file: no Service", ServiceNotFound, Certain, "does not exist", "get services", func(s *scene) {
			s.Facts = s.WithFile(Manifest{APIService: s.object()})
			s.APIServices[apiService].Service = Saw[*corev1.Service](nil)
		}, false},
		{"in a file: taken over", GroupVersionClaimedTwice, Certain, "leads to Service other/adapter", "the other is other/adapter", func(s *scene) {
			s.Cluster.APIServices.Value[0].Spec.Service = &apiregistrationv1.ServiceReference{Namespace: "other", Name: "adapter"}
			s.Facts = s.WithFile(Manifest{APIService: s.object(), Service: s.a.Service.Value})
		}, false},
		{"in a file: no rights", AuthenticationReaderMissing, Likely, "ServiceAccount shop/widgets may not get", "create rolebinding", func(s *scene) {
			s.a.Rights[ReadAuthentication] = Saw(false)
			s.Facts = s.WithFile(Manifest{APIService: s.object()})
		}, false},
	}
}

func TestEveryFaultHasAScenario(t *testing.T) {
	has := map[Code]bool{}
	for _, c := range scenarios() {
		has[c.code] = true
	}
	for _, f := range Faults() {
		if !has[f.Code] {
			t.Errorf("%s %s has none", f.Code, f.Name)
		}
	}
}
