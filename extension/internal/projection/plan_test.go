package projection

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/annex-api/annex/extension/internal/kind"
)

// secrets are shown as pods are, by name and an image: any two types do.
func newSource(change func(*Config)) *Source {
	s := &Source{seen: newSeen(), Config: Config{
		Kind: &kind.Kind{
			Hub: schema.GroupVersion{Group: "pods.example.com", Version: "v1"}, Names: kind.Names{Kind: "Pod", Plural: "pods"}, Namespaced: true,
			New: func() runtime.Object { return &corev1.Pod{} },
		},
		Resource: schema.GroupVersionResource{Version: "v1", Resource: "services"}, SourceKind: "Service",
		Labels:    labels.SelectorFromSet(labels.Set{"pod": "true"}),
		NewSource: func() any { return &corev1.Service{} },
		To: func(from any, into runtime.Object) (bool, error) {
			into.(*corev1.Pod).Spec.Hostname = from.(*corev1.Service).Spec.ExternalName
			return true, nil
		},
		From: func(_ context.Context, object runtime.Object, into any) error {
			into.(*corev1.Service).Spec.ExternalName = object.(*corev1.Pod).Spec.Hostname
			return nil
		},
	}}
	if change != nil {
		change(&s.Config)
	}
	return s
}

func parse(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON([]byte(text)); err != nil {
		t.Fatal(err)
	}
	return u
}

func (s *Source) stored(t *testing.T, text string) *Stored {
	t.Helper()
	u := parse(t, text)
	object, err := s.show(u)
	if err != nil || object == nil {
		t.Fatalf("shown is %v, %v", object, err)
	}
	return &Stored{Object: s.versioned(object, 7), source: u}
}

const service = `{"apiVersion":"v1","kind":"Service","metadata":{"name":"a","namespace":"n","uid":"u","resourceVersion":"3",
	"labels":{"pod":"true"},"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"of the service"},"future":"kept"},
	"spec":{"externalName":"old","future":{"deep":"kept"},"clusterIP":"None"},"future":[1,2]}`

// What the Go type of the source does not know is not lost by a write.
func TestPlanKeepsFieldsThatTheTypeDoesNotHave(t *testing.T) {
	s := newSource(nil)
	before := s.stored(t, service)
	pod := before.Object.DeepCopyObject().(*corev1.Pod)
	pod.Spec.Hostname = "new"
	p, err := s.Plan(t.Context(), before, pod)
	if err != nil {
		t.Fatal(err)
	}
	want := parse(t, service)
	want.Object["spec"].(map[string]any)["externalName"] = "new"
	if !reflect.DeepEqual(p.source.Object, want.Object) {
		t.Errorf("the source would be %v, want %v", p.source.Object, want.Object)
	}
	if p.Shown.(*corev1.Pod).Spec.Hostname != "new" {
		t.Errorf("shown would be %v", p.Shown)
	}
}

func TestPlanThatChangesNothingIsNotSent(t *testing.T) {
	s := newSource(nil) // it has no client
	before := s.stored(t, service)
	p, err := s.Plan(t.Context(), before, before.Object.DeepCopyObject())
	if err != nil {
		t.Fatal(err)
	}
	object, err := s.Write(t.Context(), p, nil)
	if err != nil || !reflect.DeepEqual(object, before.Object) {
		t.Errorf("a write of the same gave %v, %v", object, err)
	}
}

// Neither the identity of the source nor that of what is shown is for hooks to change.
func TestHooksCannotChangeWhichObjectItIs(t *testing.T) {
	forge := func(m metav1.Object) {
		m.SetName("other")
		m.SetNamespace("other")
		m.SetUID("other")
		m.SetResourceVersion("99")
		m.SetFinalizers([]string{"example.com/other"})
	}
	s := newSource(func(c *Config) {
		c.To = func(_ any, into runtime.Object) (bool, error) {
			forge(into.(*corev1.Pod))
			return true, nil
		}
		c.From = func(_ context.Context, _ runtime.Object, into any) error {
			service := into.(*corev1.Service)
			finalizers := service.Finalizers
			forge(service)
			service.Finalizers = finalizers
			return nil
		}
	})
	before := s.stored(t, service)
	pod := before.Object.(*corev1.Pod)
	if pod.Name != "a" || pod.Namespace != "n" || pod.UID != "u" || pod.ResourceVersion != "7" || len(pod.Finalizers) > 0 {
		t.Errorf("shown is %v", pod.ObjectMeta)
	}
	p, err := s.Plan(t.Context(), before, pod.DeepCopy())
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(p.source.Object, parse(t, service).Object) {
		t.Errorf("the source would be %v", p.source.Object)
	}
}

func TestManagersAndLastAppliedAreTheirOwn(t *testing.T) {
	s := newSource(nil)
	before := s.stored(t, service)
	pod := before.Object.DeepCopyObject().(*corev1.Pod)
	if len(pod.Annotations) > 0 {
		t.Errorf("shown are the annotations %v", pod.Annotations)
	}
	pod.Annotations = map[string]string{lastApplied: "of the pod", s.managersKey(): "forged", "mine": "x"}
	pod.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kit", Operation: metav1.ManagedFieldsOperationApply, APIVersion: "pods.example.com/v1"}}
	p, err := s.Plan(t.Context(), before, pod)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := json.Marshal(pod.ManagedFields)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		lastApplied: "of the service", "pods.example.com/pods.last-applied": "of the pod",
		"pods.example.com/pods.managed-fields": string(entries), "mine": "x",
	}
	if got := p.source.GetAnnotations(); !reflect.DeepEqual(got, want) {
		t.Errorf("the source would have the annotations %v, want %v", got, want)
	}
	shown := p.Shown.(*corev1.Pod)
	if !reflect.DeepEqual(shown.Annotations, map[string]string{lastApplied: "of the pod", "mine": "x"}) || !reflect.DeepEqual(shown.ManagedFields, pod.ManagedFields) {
		t.Errorf("shown would be the annotations %v and the managers %v", shown.Annotations, shown.ManagedFields)
	}
	pod.Annotations, pod.ManagedFields = nil, nil
	if p, err = s.Plan(t.Context(), &Stored{Object: p.Shown, source: p.source}, pod); err != nil {
		t.Fatal(err)
	}
	if got := p.source.GetAnnotations(); !reflect.DeepEqual(got, map[string]string{lastApplied: "of the service"}) {
		t.Errorf("the source would have the annotations %v after all were taken off", got)
	}
}

func TestPlanOfACreation(t *testing.T) {
	s := newSource(func(c *Config) { c.Namespace = "n" })
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "n", UID: "made up", Labels: map[string]string{"x": "y"}}, Spec: corev1.PodSpec{Hostname: "h"}}
	p, err := s.Plan(t.Context(), nil, pod)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]any{
		"apiVersion": "v1", "kind": "Service",
		"metadata": map[string]any{"name": "a", "namespace": "n", "labels": map[string]any{"pod": "true", "x": "y"}},
		"spec":     map[string]any{"externalName": "h"},
	} {
		if got := p.source.Object[path]; !reflect.DeepEqual(got, want) {
			t.Errorf("%s of the source would be %v, want %v", path, got, want)
		}
	}
	elsewhere := pod.DeepCopy()
	elsewhere.Namespace = "elsewhere"
	if _, err := s.Plan(t.Context(), nil, elsewhere); !apierrors.IsForbidden(err) {
		t.Errorf("a creation in another namespace gave %v", err)
	}
	unselected := pod.DeepCopy()
	unselected.Labels["pod"] = "false"
	if _, err := s.Plan(t.Context(), nil, unselected); !apierrors.IsInvalid(err) {
		t.Errorf("a creation of what is not selected gave %v", err)
	}
}

// A write that makes To show a key that it hid does not write the key, whose value the client has not
// seen.
func TestPlanDoesNotWriteWhatWasHidden(t *testing.T) {
	s := newSource(func(c *Config) {
		to := c.To
		c.To = func(from any, into runtime.Object) (bool, error) {
			if shown, err := to(from, into); !shown || err != nil {
				return shown, err
			}
			if pod := into.(*corev1.Pod); pod.Spec.Hostname != "open" {
				delete(pod.Labels, "secret")
			}
			return true, nil
		}
	})
	before := s.stored(t, service)
	before.source.SetLabels(map[string]string{"pod": "true", "secret": "hidden"})
	pod := before.Object.DeepCopyObject().(*corev1.Pod)
	pod.Spec.Hostname, pod.Labels["secret"] = "open", "mine"
	p, err := s.Plan(t.Context(), before, pod)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write(t.Context(), p, nil); !apierrors.IsInvalid(err) || p.source.GetLabels()["secret"] != "hidden" {
		t.Errorf("the source would have the labels %v, %v", p.source.GetLabels(), err)
	}
	if asked := p.Asked.(*corev1.Pod).Labels["secret"]; asked != "mine" {
		t.Errorf("Allowed is asked about the label %q", asked)
	}
}

func TestShowSurvivesTo(t *testing.T) {
	for name, to := range map[string]func(any, runtime.Object) (bool, error){
		"error": func(any, runtime.Object) (bool, error) { return true, errors.New("broken") },
		"panic": func(any, runtime.Object) (bool, error) { panic("broken") },
	} {
		s := newSource(func(c *Config) { c.To = to })
		if object, err := s.show(parse(t, service)); err == nil || object != nil {
			t.Errorf("%s: shown is %v, %v", name, object, err)
		}
	}
}

func TestFailureNamesWhatIsShown(t *testing.T) {
	s := newSource(nil)
	services := schema.GroupResource{Resource: "services"}
	for name, c := range map[string]struct {
		err    error
		reason metav1.StatusReason
		code   int32
		about  metav1.StatusDetails // without causes
	}{
		"not found":    {apierrors.NewNotFound(services, "a"), metav1.StatusReasonNotFound, 404, metav1.StatusDetails{Group: "pods.example.com", Kind: "pods", Name: "a"}},
		"forbidden":    {apierrors.NewForbidden(services, "a", errors.New("no")), metav1.StatusReasonForbidden, 403, metav1.StatusDetails{Group: "pods.example.com", Kind: "pods", Name: "a"}},
		"namespace":    {apierrors.NewNotFound(schema.GroupResource{Resource: "namespaces"}, "n"), metav1.StatusReasonNotFound, 404, metav1.StatusDetails{Kind: "namespaces", Name: "n"}},
		"too many":     {apierrors.NewTooManyRequests("wait", 9), metav1.StatusReasonTooManyRequests, 429, metav1.StatusDetails{Group: "pods.example.com", Kind: "pods", Name: "a", RetryAfterSeconds: 9}},
		"unauthorized": {apierrors.NewUnauthorized("who?"), metav1.StatusReasonInternalError, 500, metav1.StatusDetails{}},
		"network":      {errors.New("connection refused"), metav1.StatusReasonServiceUnavailable, 503, metav1.StatusDetails{}},
		"time-out":     {context.DeadlineExceeded, metav1.StatusReasonTimeout, 504, metav1.StatusDetails{RetryAfterSeconds: retryAfter}},
	} {
		var status *apierrors.StatusError
		if !errors.As(s.failure("a", c.err), &status) {
			t.Fatalf("%s: no status", name)
		}
		got := status.ErrStatus
		details := metav1.StatusDetails{}
		if got.Details != nil {
			details = *got.Details
			details.Causes = nil
		}
		if got.Reason != c.reason || got.Code != c.code || !reflect.DeepEqual(details, c.about) {
			t.Errorf("%s: %v, %+v", name, got, details)
		}
	}
	if IsOutdated(apierrors.NewConflict(services, "a", nil)) || !IsOutdated(outdated(apierrors.NewConflict(services, "a", nil))) {
		t.Error("an outdated write is not told from a conflict")
	}
	if !apierrors.IsConflict(outdated(apierrors.NewConflict(services, "a", nil))) {
		t.Error("an outdated write is no conflict for its client")
	}
}
