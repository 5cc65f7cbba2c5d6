package doctor

import (
	"context"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/annex-api/annex/diagnosis"
)

func registrationFaults() []fault {
	return []fault{
		{
			name: "uninstalled", code: diagnosis.ServiceNotFound, also: []diagnosis.Code{diagnosis.DiscoveryIncomplete}, short: true,
			how:  "the Service and its Pods are gone, the APIService is left",
			plan: func(s *site) { s.service, s.slice, s.pods, s.deployment = nil, nil, nil, nil },
			run:  []string{"kubectl delete apiservice"}, gone: true,
		},
		{
			name: "renamed", code: diagnosis.ServiceNotFound,
			how: "the APIService names a Service by the name that it had before",
			plan: func(s *site) {
				s.apiService.Spec.Service.Name = "server-api"
			},
			run: []string{"kubectl patch apiservice"},
		},
		{
			name: "wrong-port", code: diagnosis.ServicePortError, short: true,
			how:  "the APIService names a port that the Service does not have",
			plan: func(s *site) { port := int32(8443); s.apiService.Spec.Service.Port = &port },
			run:  []string{"kubectl patch apiservice"},
		},
		{
			name: "two-claimants", code: diagnosis.GroupVersionClaimedTwice, available: true,
			how: "another adapter that serves external.metrics.k8s.io runs in the cluster",
			plan: func(s *site) {
				s.group, s.version = "external.metrics.k8s.io", "v1beta1"
			},
			inject: func(ctx context.Context, s *site) error {
				labels := map[string]string{"app": "keda"}
				_, err := s.kube.AppsV1().Deployments(s.namespace).Create(ctx, &appsv1.Deployment{
					ObjectMeta: metav1.ObjectMeta{Name: "keda-metrics-apiserver"},
					Spec: appsv1.DeploymentSpec{Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: corev1.PodTemplateSpec{
						ObjectMeta: metav1.ObjectMeta{Labels: labels},
						Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "server", Image: "ghcr.io/kedacore/keda-metrics-apiserver:2.17"}}},
					}},
				}, metav1.CreateOptions{})
				return err
			},
			run: []string{"kubectl get apiservice"}, by: "one of the two is uninstalled",
			mend: func(ctx context.Context, s *site) error {
				return s.kube.AppsV1().Deployments(s.namespace).Delete(ctx, "keda-metrics-apiserver", metav1.DeleteOptions{})
			},
		},
		{
			name: "webhook", code: diagnosis.WebhookRegisteredAsAPI,
			how:  "the Service is an admission webhook's, which serves no API",
			plan: func(s *site) { s.manner.serves = []string{} },
			inject: func(ctx context.Context, s *site) error {
				s.server.change(func(m *manner) { m.serves = nil })
				path, ignore, none := "/validate", admissionregistrationv1.Ignore, admissionregistrationv1.SideEffectClassNone
				_, err := s.kube.AdmissionregistrationV1().ValidatingWebhookConfigurations().Create(ctx, &admissionregistrationv1.ValidatingWebhookConfiguration{
					ObjectMeta: metav1.ObjectMeta{Name: s.namespace},
					Webhooks: []admissionregistrationv1.ValidatingWebhook{{
						Name: "check.example.com", FailurePolicy: &ignore, SideEffects: &none, AdmissionReviewVersions: []string{"v1"},
						ClientConfig: admissionregistrationv1.WebhookClientConfig{CABundle: s.authority, Service: &admissionregistrationv1.ServiceReference{Namespace: s.namespace, Name: app, Path: &path}},
						Rules: []admissionregistrationv1.RuleWithOperations{{
							Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
							Rule:       admissionregistrationv1.Rule{APIGroups: []string{"nothing.example.com"}, APIVersions: []string{"v1"}, Resources: []string{"nothings"}},
						}},
					}},
				}, metav1.CreateOptions{})
				return err
			},
			run: []string{"kubectl delete apiservice"}, gone: true,
		},
		{
			name: "hidden", code: diagnosis.CustomResourcesHidden, available: true,
			how: "a CustomResourceDefinition serves the same group version",
			after: func(ctx context.Context, s *site) error {
				return s.Create(ctx, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", object{
					"metadata": object{"name": "things." + s.group},
					"spec": object{
						"group": s.group, "scope": "Cluster", "names": object{"plural": "things", "kind": "Thing"},
						"versions": []object{{"name": "v1", "served": true, "storage": true, "schema": object{"openAPIV3Schema": object{"type": "object"}}}},
					},
				})
			},
			run: []string{"kubectl delete apiservice"}, gone: true,
		},
		{
			name: "misspelt", code: diagnosis.APIServiceNotFound, available: true, asks: "v1.misspelt.exampel.com",
			how: "doctor is asked for an APIService by a name that is nearly right",
			run: []string{"kubectl get apiservices v1.misspelt.example.com"}, by: "it is asked for by the name that is printed",
		},
	}
}
