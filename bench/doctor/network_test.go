package doctor

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/annex-api/annex/bench/internal/build"
	"github.com/annex-api/annex/diagnosis"
)

// deadProxy is where an HTTP proxy should be.
const deadProxy = "10.77.0.20:3128"

// spareAddress is one of no Pod of another site.
func spareAddress(s *site) string { return strings.Replace(s.ip, "10.77.", "10.77.1", 1) }

// tlsDial connects and verifies.
func tlsDial(ctx context.Context, address string) error {
	conn, err := (&tls.Dialer{Config: &tls.Config{MinVersion: tls.VersionTLS12}}).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}

// block has the firewall treat connections to the Pod's port so; unblock ends it.
func (s *site) block(ctx context.Context, verdict string) error {
	return nft(ctx, "add table inet filter", "add chain inet filter input { type filter hook input priority 0; policy accept; }",
		fmt.Sprintf("add table inet %s", s.table()), fmt.Sprintf("add chain inet %s input { type filter hook input priority 10; policy accept; }", s.table()),
		fmt.Sprintf("add rule inet %s input ip daddr %s tcp dport %d %s", s.table(), s.ip, s.port, verdict))
}

func (s *site) unblock(ctx context.Context) error { return nft(ctx, "delete table inet "+s.table()) }

func (s *site) table() string {
	return strings.ReplaceAll(fmt.Sprintf("%s_%d", s.namespace, s.number), "-", "_")
}

func networkFaults() []fault {
	return []fault{
		{
			name: "firewall", needs: "nft", code: diagnosis.ControlPlaneBlocked,
			how: "a rule of the firewall drops what the API server sends to the Pod's port",
			inject: func(ctx context.Context, s *site) error {
				return nft(ctx, "add table inet filter", "add chain inet filter input { type filter hook input priority 0; policy accept; }",
					fmt.Sprintf("add rule inet filter input tcp dport %d ip daddr %s drop", s.port, s.ip))
			},
			run: []string{"nft insert rule inet filter input"}, fill: map[string]string{"CONTROL_PLANE_CIDR": "10.77.0.0/16"},
		},
		{
			name: "port-changed", needs: "nft", code: diagnosis.PortChanged,
			how:  "a new version listens on another port, which the firewall does not let in",
			plan: func(s *site) { s.service.Spec.Ports[0].TargetPort = intstr.FromString("https") },
			inject: func(ctx context.Context, s *site) error {
				apps := s.kube.AppsV1()
				d, err := apps.Deployments(s.namespace).Get(ctx, app, metav1.GetOptions{})
				if err != nil {
					return err
				}
				for i, port := range []int32{s.port + 500, s.port} { // as its controller keeps revisions
					template := *d.Spec.Template.DeepCopy()
					template.Spec.Containers[0].Ports[0].ContainerPort = port
					if _, err := apps.ReplicaSets(s.namespace).Create(ctx, &appsv1.ReplicaSet{
						ObjectMeta: metav1.ObjectMeta{
							Name: fmt.Sprintf("server-%d", i), Labels: template.Labels, Annotations: map[string]string{"deployment.kubernetes.io/revision": fmt.Sprint(i + 1)},
							OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(d, appsv1.SchemeGroupVersion.WithKind("Deployment"))},
						},
						Spec: appsv1.ReplicaSetSpec{Selector: d.Spec.Selector, Template: template},
					}, metav1.CreateOptions{}); err != nil {
						return err
					}
				}
				return s.block(ctx, "drop")
			},
			run: []string{"rollout undo"},
			mend: func(ctx context.Context, s *site) error {
				d, err := s.kube.AppsV1().Deployments(s.namespace).Get(ctx, app, metav1.GetOptions{})
				if err != nil {
					return err
				}
				s.deployment.Spec.Template = d.Spec.Template
				s.port = d.Spec.Template.Spec.Containers[0].Ports[0].ContainerPort
				if err := s.listen(); err != nil {
					return err
				}
				return s.replace(ctx)
			},
		},
		{
			name: "network-policy", needs: "nft", code: diagnosis.NetworkPolicyBlocks,
			how: "a NetworkPolicy lets only Pods in, and the firewall enforces it",
			inject: func(ctx context.Context, s *site) error {
				_, err := s.kube.NetworkingV1().NetworkPolicies(s.namespace).Create(ctx, &networkingv1.NetworkPolicy{
					ObjectMeta: metav1.ObjectMeta{Name: "only-pods"},
					Spec: networkingv1.NetworkPolicySpec{
						PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress},
						Ingress:     []networkingv1.NetworkPolicyIngressRule{{From: []networkingv1.NetworkPolicyPeer{{NamespaceSelector: &metav1.LabelSelector{}}}}},
					},
				}, metav1.CreateOptions{})
				return errors.Join(err, s.block(ctx, "drop"))
			},
			run: []string{"describe networkpolicy", "apply -f -"},
			mend: func(ctx context.Context, s *site) error {
				if err := s.allowed(ctx, networkingv1.PolicyTypeIngress); err != nil {
					return err
				}
				return s.unblock(ctx)
			},
		},
		{
			name: "no-way", code: diagnosis.NoWayToPodNetwork,
			how: "the Pod has an address of a network to which the API server's host has no route",
			plan: func(s *site) {
				s.nowhere = true
				s.pods = []*corev1.Pod{s.pod("server-0", "192.0.2.7", node)}
				s.slice = s.sliceOf(app, "https", s.port)
			},
			run: []string{"hostNetwork"},
			mend: func(ctx context.Context, s *site) error {
				if err := s.rolledOut(ctx); err != nil {
					return err
				}
				if err := s.listen(); err != nil {
					return err
				}
				return s.replace(ctx)
			},
		},
		{
			name: "no-route", needs: "nft", code: diagnosis.NoRouteToHost,
			how: "the firewall of the Pod's node refuses with host-unreachable, as firewalld does",
			inject: func(ctx context.Context, s *site) error {
				return s.block(ctx, "reject with icmp type host-unreachable")
			},
			mend: func(ctx context.Context, s *site) error { return s.unblock(ctx) },
			by:   "the firewall lets the port in (firewalld is not on this machine)",
		},
		{
			name: "wrong-target-port", code: diagnosis.ConnectionRefused, short: true,
			how: "the Service's targetPort is none on which the Pod listens",
			plan: func(s *site) {
				s.service.Spec.Ports[0].TargetPort.IntVal = 9443
				s.slice = s.sliceOf(app, "https", 9443)
			},
			run: []string{"patch service"},
			mend: func(ctx context.Context, s *site) error {
				service, err := s.kube.CoreV1().Services(s.namespace).Get(ctx, app, metav1.GetOptions{})
				if err != nil {
					return err
				}
				return s.endpoints(ctx, service.Spec.Ports[0].TargetPort.IntVal)
			},
		},
		{
			name: "reset", code: diagnosis.ConnectionReset,
			how: "the sidecar of a mesh resets connections from outside of the mesh",
			plan: func(s *site) {
				s.manner.reset = true
				s.deployment.Spec.Template.Spec.Containers = append(s.deployment.Spec.Template.Spec.Containers, corev1.Container{Name: "linkerd-proxy", Image: "registry.example.com/proxy:v1"})
				s.pods = []*corev1.Pod{s.pod("server-0", s.ip, node)}
			},
			run: []string{"skip-inbound-ports"},
			mend: func(ctx context.Context, s *site) error {
				d, err := s.kube.AppsV1().Deployments(s.namespace).Get(ctx, app, metav1.GetOptions{})
				if err == nil && d.Spec.Template.Annotations["config.linkerd.io/skip-inbound-ports"] != fmt.Sprint(s.port) {
					err = fmt.Errorf("annotations are %v", d.Spec.Template.Annotations)
				}
				s.server.change(func(m *manner) { m.reset = false })
				return err
			},
		},
		{
			name: "http-proxy", code: diagnosis.ProxyInTheWay, only: build.Reference, why: "does not use a proxy for extension servers",
			how: "kube-apiserver runs with HTTPS_PROXY, and NO_PROXY lacks the Pod's range",
			plan: func(s *site) {
				s.ip = "10.77.200.1"
				s.pods = []*corev1.Pod{s.pod("server-0", s.ip, node)}
				s.slice = s.sliceOf(app, "https", s.port)
			},
			by: "the Pod moves into the range of NO_PROXY, in place of a restart of the server that all faults share",
			mend: func(ctx context.Context, s *site) error {
				s.ip = "10.77.90.1"
				if err := s.listen(); err != nil {
					return err
				}
				return s.replace(ctx)
			},
		},
		{
			name: "no-way-back", code: diagnosis.APIServerUnreachableFromPod, also: []diagnosis.Code{diagnosis.MissingEndpoints},
			how:  "the Pod cannot connect to the Service of the API server, and is not ready",
			plan: func(s *site) { s.unready("") },
			inject: func(ctx context.Context, s *site) error {
				conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", "10.96.0.1:443")
				if err == nil {
					return errors.Join(errors.New("the Service of the API server was reached"), conn.Close())
				}
				s.server.say(`E1128 00:00:00.000000       1 reflector.go:166] "Failed to watch" err="Get \"https://10.96.0.1:443/api\": %v"`, err)
				return nil
			},
			run: []string{"allow-egress"},
			mend: func(ctx context.Context, s *site) error {
				if err := s.allowed(ctx, networkingv1.PolicyTypeEgress); err != nil {
					return err
				}
				return s.replace(ctx)
			},
		},
	}
}
