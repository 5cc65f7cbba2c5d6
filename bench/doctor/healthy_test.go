package doctor

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/annex-api/annex/internal/testcerts"
)

// TestHealthy: set-ups that are odd and right, of which doctor finds nothing to say.
func TestHealthy(t *testing.T) {
	servers := running(t)
	for _, h := range []struct {
		name   string
		short  bool
		plan   func(*site)
		inject func(context.Context, *site) error
	}{
		{name: "plain", short: true},
		{name: "delegates", short: true, inject: func(ctx context.Context, s *site) error {
			if err := s.allRights(ctx); err != nil {
				return err
			}
			return s.delegate(ctx, nil)
		}},
		{name: "no-selector", plan: func(s *site) {
			s.service.Spec.Selector, s.pods, s.deployment = nil, nil, nil
		}},
		{name: "headless", plan: func(s *site) { s.service.Spec.ClusterIP = corev1.ClusterIPNone }},
		{name: "other-port", plan: func(s *site) {
			s.service.Spec.Ports[0].Port = 8443
			port := int32(8443)
			s.apiService.Spec.Service.Port = &port
		}},
		{name: "named-target-port", plan: func(s *site) { s.service.Spec.Ports[0].TargetPort = intstr.FromString("https") }},
		{name: "two-ports", plan: func(s *site) {
			s.service.Spec.Ports = append(s.service.Spec.Ports, corev1.ServicePort{Name: "metrics", Port: 9100, TargetPort: intstr.FromInt32(9100)})
		}},
		{name: "unnamed-port", plan: func(s *site) {
			s.service.Spec.Ports[0].Name = ""
			s.slice = s.sliceOf(app, "", s.port)
		}},
		{name: "old-authority-too", plan: func(s *site) {
			s.apiService.Spec.CABundle = append(testcerts.New("before").PEM, s.authority...)
		}},
		{name: "text-in-bundle", plan: func(s *site) {
			s.apiService.Spec.CABundle = append([]byte("# the authority of this site\n"), s.authority...)
		}},
		{name: "many-names", plan: func(s *site) {
			s.certificate = s.issue(testcerts.Subject{Hosts: []string{"localhost", s.host() + ".cluster.local", s.host()}})
		}},
		{name: "wildcard", plan: func(s *site) {
			s.certificate = s.issue(testcerts.Subject{Hosts: []string{"*." + s.namespace + ".svc"}})
		}},
		{name: "short-lived", plan: func(s *site) {
			s.certificate = s.issue(testcerts.Subject{NotBefore: time.Now().Add(-5 * time.Minute), NotAfter: time.Now().Add(55 * time.Minute)})
		}},
		{name: "rolls-out", plan: func(s *site) {
			// A second Pod is on its way, not ready yet.
			next := s.pod("server-1", s.ip, node)
			next.Status.PodIP, next.Status.PodIPs, next.Status.Phase = "", nil, corev1.PodPending
			next.Status.Conditions[0].Status, next.Status.ContainerStatuses = corev1.ConditionFalse, nil
			s.slice = s.sliceOf(app, "https", s.port)
			s.pods = append(s.pods, next)
		}},
		{name: "restarted-once", plan: func(s *site) { s.pods[0].Status.ContainerStatuses[0].RestartCount = 1 }},
		{name: "old-errors", inject: func(_ context.Context, s *site) error {
			s.server.say(`E1127 00:00:00.000000       1 authentication.go:75] "Unable to authenticate the request" err="x509: certificate signed by unknown authority"`)
			return nil
		}},
		{name: "policy-that-lets-in", inject: func(ctx context.Context, s *site) error {
			_, err := s.kube.NetworkingV1().NetworkPolicies(s.namespace).Create(ctx, &networkingv1.NetworkPolicy{
				ObjectMeta: metav1.ObjectMeta{Name: "in"}, Spec: networkingv1.NetworkPolicySpec{Ingress: []networkingv1.NetworkPolicyIngressRule{{}}},
			}, metav1.CreateOptions{})
			return err
		}},
		{name: "policy-not-enforced", inject: func(ctx context.Context, s *site) error {
			_, err := s.kube.NetworkingV1().NetworkPolicies(s.namespace).Create(ctx, &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: "none"}}, metav1.CreateOptions{})
			return err
		}},
		{name: "kept-by-cainjector", plan: func(s *site) {
			s.manager = "cert-manager-cainjector"
			s.apiService.Annotations = map[string]string{"cert-manager.io/inject-ca-from": s.namespace + "/server"}
		}},
		{name: "written-by-gitops", plan: func(s *site) { s.manager = "argocd-controller" }},
		{name: "two-seconds", plan: func(s *site) { s.manner.delay = 1500 * time.Millisecond }},
		{name: "two-versions", plan: func(s *site) { s.manner.serves = []string{s.group + "/v2"} }},
	} {
		if testing.Short() && !h.short {
			continue
		}
		for name, c := range servers {
			t.Run(h.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				s := c.build(t, "well-"+h.name, h.plan)
				if h.inject != nil {
					if err := h.inject(t.Context(), s); err != nil {
						t.Fatal(err)
					}
				}
				if err := s.register(t.Context()); err != nil {
					t.Fatal(err)
				}
				if err := s.settled(t.Context(), fault{available: true}); err != nil {
					t.Fatal(err)
				}
				// The lists of resources, and OpenAPI, come a moment after that.
				err := until(t.Context(), "something is found", func() error {
					r, err := s.examine(t.Context(), s.name())
					if err == nil && len(r.Findings) > 0 {
						err = fmt.Errorf("%s", summary(r))
					}
					return err
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
	}
}
