package kubeapiservertest

import (
	"context"
	"fmt"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"k8s.io/kube-aggregator/pkg/apis/apiregistration/v1/helper"
)

// Expose makes a Service of type ExternalName in the namespace default that
// leads to host, until the test ends.
func (s *Server) Expose(t testing.TB, name, host string) {
	t.Helper()
	s.CreateService(t, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: host},
	})
}

// CreateService makes a Service in the namespace default until the test ends.
func (s *Server) CreateService(t testing.TB, service *corev1.Service) {
	t.Helper()
	services := s.Kube(t).CoreV1().Services("default")
	if _, err := services.Create(t.Context(), service, metav1.CreateOptions{}); err != nil {
		t.Fatalf("creating the Service %s: %v", service.Name, err)
	}
	t.Cleanup(func() {
		if err := services.Delete(context.Background(), service.Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			t.Errorf("deleting the Service %s: %v", service.Name, err)
		}
	})
}

// Registration is an APIService that leads to an extension server.
func Registration(gv schema.GroupVersion, e *Extension) *apiregistrationv1.APIService {
	return &apiregistrationv1.APIService{
		ObjectMeta: metav1.ObjectMeta{Name: gv.Version + "." + gv.Group},
		Spec: apiregistrationv1.APIServiceSpec{
			Group: gv.Group, Version: gv.Version, GroupPriorityMinimum: 1000, VersionPriority: 15,
			Service:  &apiregistrationv1.ServiceReference{Namespace: "default", Name: e.Name, Port: &e.Port},
			CABundle: e.CA.PEM,
		},
	}
}

// CreateRegistration stores an APIService until the test ends.
func (s *Server) CreateRegistration(t testing.TB, a *apiregistrationv1.APIService) *apiregistrationv1.APIService {
	t.Helper()
	created, err := s.Registrations(t).ApiregistrationV1().APIServices().Create(t.Context(), a, metav1.CreateOptions{})
	if err != nil {
		t.Fatalf("creating the APIService %s: %v", a.Name, err)
	}
	t.Cleanup(func() { s.Unregister(t, a.Name) })
	return created
}

// Unregister deletes an APIService, if it is there.
func (s *Server) Unregister(t testing.TB, name string) {
	t.Helper()
	err := s.Registrations(t).ApiregistrationV1().APIServices().Delete(context.Background(), name, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		t.Errorf("deleting the APIService %s: %v", name, err)
	}
}

// UpdateRegistration changes a stored APIService; cleanups may call it.
func (s *Server) UpdateRegistration(t testing.TB, name string, change func(*apiregistrationv1.APIService)) {
	t.Helper()
	client := s.Registrations(t).ApiregistrationV1().APIServices()
	Eventually(t, func() string {
		a, err := client.Get(context.Background(), name, metav1.GetOptions{})
		if err != nil {
			return err.Error()
		}
		change(a)
		if _, err := client.Update(context.Background(), a, metav1.UpdateOptions{}); err != nil {
			return err.Error() // a conflict with the status writer
		}
		return ""
	})
}

// Register starts an extension server for group versions, exposes and
// registers it, and waits until it is available and its discovery known.
func (s *Server) Register(t testing.TB, name string, gvs ...schema.GroupVersion) *Extension {
	t.Helper()
	e := NewExtension(t, name, gvs...)
	s.Expose(t, name, "localhost")
	for _, gv := range gvs {
		s.CreateRegistration(t, Registration(gv, e))
	}
	for _, gv := range gvs {
		s.AwaitAvailable(t, gv)
	}
	return e
}

// AwaitAvailable waits until requests for a group version reach its extension
// server.
func (s *Server) AwaitAvailable(t testing.TB, gv schema.GroupVersion) {
	t.Helper()
	s.AwaitCondition(t, gv, apiregistrationv1.ConditionTrue, "Passed", "all checks passed")
}

// AwaitCondition waits for the Available condition of a group version.
func (s *Server) AwaitCondition(t testing.TB, gv schema.GroupVersion, status apiregistrationv1.ConditionStatus, reason, message string) {
	t.Helper()
	Eventually(t, func() string {
		c := s.Condition(t, gv)
		if c.Status == status && c.Reason == reason && c.Message == message {
			return ""
		}
		return fmt.Sprintf("the condition of %s is %s, %s, %q; want %s, %s, %q", gv, c.Status, c.Reason, c.Message, status, reason, message)
	})
}

// Condition is the stored Available condition; zero where there is none.
func (s *Server) Condition(t testing.TB, gv schema.GroupVersion) apiregistrationv1.APIServiceCondition {
	t.Helper()
	a, err := s.Registrations(t).ApiregistrationV1().APIServices().Get(t.Context(), gv.Version+"."+gv.Group, metav1.GetOptions{})
	if err != nil {
		t.Fatalf("getting the APIService of %s: %v", gv, err)
	}
	if c := helper.GetAPIServiceConditionByType(a, apiregistrationv1.Available); c != nil {
		return *c
	}
	return apiregistrationv1.APIServiceCondition{}
}

// Allow lets a user do everything in a group, until the test ends.
func (s *Server) Allow(t testing.TB, user, group string) {
	t.Helper()
	name := user + ":" + group
	rbac := s.Kube(t).RbacV1()
	_, err := rbac.ClusterRoles().Create(t.Context(), &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{group}, Resources: []string{"*"}, Verbs: []string{"*"}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatalf("creating the ClusterRole %s: %v", name, err)
	}
	_, err = rbac.ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: user}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatalf("creating the ClusterRoleBinding %s: %v", name, err)
	}
	Eventually(t, func() string {
		review, err := s.Kube(t).AuthorizationV1().SubjectAccessReviews().Create(t.Context(), &authorizationv1.SubjectAccessReview{
			Spec: authorizationv1.SubjectAccessReviewSpec{User: user, ResourceAttributes: &authorizationv1.ResourceAttributes{Group: group, Verb: "get", Resource: "things"}},
		}, metav1.CreateOptions{})
		if err != nil {
			return err.Error()
		}
		if !review.Status.Allowed {
			return user + " is not allowed yet"
		}
		return ""
	})
	t.Cleanup(func() {
		for what, err := range map[string]error{
			"ClusterRoleBinding": rbac.ClusterRoleBindings().Delete(context.Background(), name, metav1.DeleteOptions{}),
			"ClusterRole":        rbac.ClusterRoles().Delete(context.Background(), name, metav1.DeleteOptions{}),
		} {
			if err != nil {
				t.Errorf("deleting the %s %s: %v", what, name, err)
			}
		}
	})
}
