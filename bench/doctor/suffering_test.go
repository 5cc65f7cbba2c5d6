package doctor

import (
	"context"
	"fmt"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/annex-api/annex/diagnosis"
)

// clusterFaults are about who suffers: they follow from a root, which doctor names first.
func clusterFaults() []fault {
	return []fault{
		{
			name: "stuck-namespace", code: diagnosis.MissingEndpoints, also: []diagnosis.Code{diagnosis.NamespacesStuck, diagnosis.DiscoveryIncomplete}, short: true,
			how:  "a namespace is being deleted, and its controller waits for an API without ready Pods",
			plan: func(s *site) { s.unready("ImagePullBackOff") },
			inject: func(ctx context.Context, s *site) error {
				namespaces := s.kube.CoreV1().Namespaces()
				name := s.namespace + "-deleted"
				if _, err := namespaces.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
					return err
				}
				if err := namespaces.Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
					return err
				}
				n, err := namespaces.Get(ctx, name, metav1.GetOptions{})
				if err != nil {
					return err
				}
				n.Status.Conditions = []corev1.NamespaceCondition{{
					Type: corev1.NamespaceDeletionDiscoveryFailure, Status: corev1.ConditionTrue, Reason: "DiscoveryFailed", LastTransitionTime: metav1.Now(),
					Message: fmt.Sprintf("Discovery failed for some groups, 1 failing: unable to retrieve the complete list of server APIs: %s/%s: the server is currently unable to handle the request", s.group, s.version),
				}}
				_, err = namespaces.UpdateStatus(ctx, n, metav1.UpdateOptions{})
				return err
			},
			run: []string{"describe pod", "get namespace"}, by: "the image is there; the namespace's controller goes on",
			mend: func(ctx context.Context, s *site) error {
				n, err := s.kube.CoreV1().Namespaces().Get(ctx, s.namespace+"-deleted", metav1.GetOptions{})
				if err != nil {
					return err
				}
				n.Spec.Finalizers = nil
				if _, err := s.kube.CoreV1().Namespaces().Finalize(ctx, n, metav1.UpdateOptions{}); err != nil {
					return err
				}
				return s.replace(ctx)
			},
		},
		{
			name: "blind-autoscaler", code: diagnosis.MissingEndpoints, also: []diagnosis.Code{diagnosis.AutoscalersBlind},
			how: "an autoscaler reads custom metrics, whose server has no ready Pod",
			plan: func(s *site) {
				s.group, s.version = "custom.metrics.k8s.io", "v1beta2"
				s.unready("CrashLoopBackOff")
			},
			inject: func(ctx context.Context, s *site) error {
				_, err := s.kube.AutoscalingV2().HorizontalPodAutoscalers(s.namespace).Create(ctx, &autoscalingv2.HorizontalPodAutoscaler{
					ObjectMeta: metav1.ObjectMeta{Name: "shop"},
					Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
						ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "shop"}, MaxReplicas: 3,
						Metrics: []autoscalingv2.MetricSpec{{Type: autoscalingv2.PodsMetricSourceType, Pods: &autoscalingv2.PodsMetricSource{
							Metric: autoscalingv2.MetricIdentifier{Name: "requests"},
							Target: autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: new(resource.MustParse("10"))},
						}}},
					},
				}, metav1.CreateOptions{})
				return err
			},
			run: []string{"logs server-0"}, by: "its server is mended",
			mend: func(ctx context.Context, s *site) error { return s.replace(ctx) },
		},
		{
			name: "flapping", code: diagnosis.AvailabilityFlaps, available: true,
			how: "the APIService becomes unavailable five times",
			after: func(ctx context.Context, s *site) error {
				for i := range 5 {
					for _, port := range []int{8443, 443} {
						if err := s.patchAPIService(ctx, object{"spec": object{"service": object{"port": port}}}); err != nil {
							return err
						}
						if err := s.settled(ctx, fault{available: port == 443}); err != nil {
							return fmt.Errorf("round %d: %w", i, err)
						}
					}
				}
				return nil
			},
			run: []string{"get pods", "describe pod"}, by: "it stays available; the count ends with the API server",
			remains: []diagnosis.Code{diagnosis.AvailabilityFlaps},
		},
	}
}
