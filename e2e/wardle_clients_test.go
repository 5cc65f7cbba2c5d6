package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/cache"
	"k8s.io/sample-apiserver/pkg/apis/wardle/v1alpha1"
	applyv1alpha1 "k8s.io/sample-apiserver/pkg/generated/applyconfiguration/wardle/v1alpha1"
	"k8s.io/sample-apiserver/pkg/generated/clientset/versioned"
	"k8s.io/sample-apiserver/pkg/generated/informers/externalversions"
)

var flunders = schema.GroupVersionResource{Group: wardleGroup, Version: "v1alpha1", Resource: "flunders"}

func (e *environment) wardleClient(t *testing.T) versioned.Interface {
	t.Helper()
	client, err := versioned.NewForConfig(e.admin)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func newFlunder(name, reference string) *v1alpha1.Flunder {
	return &v1alpha1.Flunder{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.FlunderSpec{Reference: reference}}
}

func TestTypedClient(t *testing.T) {
	t.Parallel()
	e := shared(t)
	ctx := t.Context()
	client := e.wardleClient(t).WardleV1alpha1().Flunders(e.namespace(t, "typed"))

	events, err := client.Watch(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer events.Stop()
	one, err := client.Create(ctx, newFlunder("one", "first"), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if one.UID == "" || one.Spec.ReferenceType == nil || *one.Spec.ReferenceType != v1alpha1.FlunderReferenceType {
		t.Errorf("the created object has no UID or no defaults: %+v", one)
	}
	stale := one.DeepCopy()
	one.Spec.Reference = "second"
	if _, err := client.Update(ctx, one, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Update(ctx, stale, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
		t.Errorf("an update of an old version: %v, want a conflict", err)
	}
	if _, err := client.Create(ctx, newFlunder("one", "again"), metav1.CreateOptions{}); !apierrors.IsAlreadyExists(err) {
		t.Errorf("a second create: %v, want that it exists", err)
	}
	if _, err := client.Patch(ctx, "one", types.MergePatchType, []byte(`{"metadata":{"labels":{"a":"b"}}}`), metav1.PatchOptions{}); err != nil {
		t.Error(err)
	}
	for i := range 5 {
		if _, err := client.Create(ctx, newFlunder(fmt.Sprintf("page-%d", i), "x"), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	page, err := client.List(ctx, metav1.ListOptions{Limit: 4})
	if err != nil || len(page.Items) != 4 || page.Continue == "" {
		t.Fatalf("a first page of 4: %d items, continue %q, %v", len(page.Items), page.Continue, err)
	}
	rest, err := client.List(ctx, metav1.ListOptions{Limit: 4, Continue: page.Continue})
	if err != nil || len(rest.Items) != 2 || rest.Continue != "" {
		t.Errorf("a second page: %d items, continue %q, %v; want the other 2", len(rest.Items), rest.Continue, err)
	}
	labelled, err := client.List(ctx, metav1.ListOptions{LabelSelector: "a=b", FieldSelector: "metadata.name=one"})
	if err != nil || len(labelled.Items) != 1 {
		t.Errorf("a list by label and field: %d items, %v; want 1", len(labelled.Items), err)
	}
	if err := client.Delete(ctx, "one", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &stale.UID}}); err != nil {
		t.Error(err)
	}
	if err := client.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
		t.Error(err)
	}
	want := []watch.EventType{watch.Added, watch.Modified, watch.Modified, watch.Added, watch.Added, watch.Added, watch.Added, watch.Added, watch.Deleted}
	for i, kind := range want {
		if got, ok := <-events.ResultChan(); !ok || got.Type != kind {
			t.Fatalf("event %d is %v (open: %v), want %v", i, got.Type, ok, kind)
		}
	}
}

func TestServerSideApply(t *testing.T) {
	t.Parallel()
	e := shared(t)
	ctx := t.Context()
	ns := e.namespace(t, "apply")
	client := e.wardleClient(t).WardleV1alpha1().Flunders(ns)
	manifest := func(reference string) *applyv1alpha1.FlunderApplyConfiguration {
		return applyv1alpha1.Flunder("x", ns).WithSpec(applyv1alpha1.FlunderSpec().WithReference(reference))
	}
	one, err := client.Apply(ctx, manifest("a"), metav1.ApplyOptions{FieldManager: "first"})
	if err != nil {
		t.Fatal(err)
	}
	if len(one.ManagedFields) != 1 || one.ManagedFields[0].Manager != "first" || one.ManagedFields[0].Operation != metav1.ManagedFieldsOperationApply {
		t.Errorf("managed fields: %v, want the first manager's", one.ManagedFields)
	}
	same, err := client.Apply(ctx, manifest("a"), metav1.ApplyOptions{FieldManager: "first"})
	if err != nil || same.ResourceVersion != one.ResourceVersion {
		t.Errorf("the same applied again: version %s, %v; want %s", same.ResourceVersion, err, one.ResourceVersion)
	}
	_, err = client.Apply(ctx, manifest("b"), metav1.ApplyOptions{FieldManager: "second"})
	var status apierrors.APIStatus
	if !apierrors.IsConflict(err) || !errors.As(err, &status) || len(status.Status().Details.Causes) != 1 ||
		status.Status().Details.Causes[0].Field != ".spec.reference" || status.Status().Details.Causes[0].Type != metav1.CauseTypeFieldManagerConflict {
		t.Errorf("another value by another manager: %v, want a conflict at .spec.reference", err)
	}
	forced, err := client.Apply(ctx, manifest("b"), metav1.ApplyOptions{FieldManager: "second", Force: true})
	if err != nil || forced.Spec.Reference != "b" {
		t.Errorf("forced: %v, %v", forced, err)
	}
	u := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": flunders.GroupVersion().String(), "kind": "Flunder", "metadata": map[string]any{"name": "y"},
		"spec": map[string]any{"reference": "dynamic"},
	}}
	got, err := e.dynamic.Resource(flunders).Namespace(ns).Apply(ctx, "y", u, metav1.ApplyOptions{FieldManager: "third"})
	if err != nil || got.GetResourceVersion() == "" {
		t.Errorf("applied by the dynamic client: %v, %v", got, err)
	}
}

func TestMetadataClient(t *testing.T) {
	t.Parallel()
	e := shared(t)
	ctx := t.Context()
	ns := e.namespace(t, "metadata")
	if _, err := e.wardleClient(t).WardleV1alpha1().Flunders(ns).Create(ctx, newFlunder("one", "x"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	var seen recorder
	client, err := metadata.NewForConfig(seen.wrap(metadata.ConfigFor(e.admin)))
	if err != nil {
		t.Fatal(err)
	}
	events, err := client.Resource(flunders).Namespace(ns).Watch(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer events.Stop()
	list, err := client.Resource(flunders).Namespace(ns).List(ctx, metav1.ListOptions{})
	if err != nil || len(list.Items) != 1 || list.Items[0].Name != "one" {
		t.Fatalf("list: %v, %v", list, err)
	}
	patched, err := client.Resource(flunders).Namespace(ns).Patch(ctx, "one", types.MergePatchType, []byte(`{"metadata":{"labels":{"a":"b"}}}`), metav1.PatchOptions{})
	if err != nil || patched.Labels["a"] != "b" {
		t.Errorf("patch: %v, %v", patched, err)
	}
	for _, kind := range []watch.EventType{watch.Added, watch.Modified} {
		got := <-events.ResultChan()
		if o, ok := got.Object.(*metav1.PartialObjectMetadata); !ok || got.Type != kind || o.Name != "one" {
			t.Errorf("event %v %T, want %v of the metadata of one", got.Type, got.Object, kind)
		}
	}
	// Metadata goes as protobuf even where the objects themselves cannot.
	for _, e := range seen.below("flunders") {
		if !strings.HasPrefix(e.answerType, "application/vnd.kubernetes.protobuf") {
			t.Errorf("%s %s?%s was answered as %s, want protobuf", e.method, e.path, e.query, e.answerType)
		}
	}
}

// informed is what an informer has told.
type informed struct {
	names chan string
}

func (i informed) handler() cache.ResourceEventHandlerFuncs {
	return cache.ResourceEventHandlerFuncs{AddFunc: func(obj any) {
		i.names <- obj.(metav1.Object).GetName()
	}}
}

// TestInformersStreamTheirList asserts that an informer's list is one watch request.
func TestInformersStreamTheirList(t *testing.T) {
	t.Parallel()
	e := shared(t)
	ns := e.namespace(t, "informers")
	objects := e.wardleClient(t).WardleV1alpha1().Flunders(ns)
	for i := range 3 {
		if _, err := objects.Create(t.Context(), newFlunder(fmt.Sprintf("old-%d", i), "x"), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for name, start := range map[string]func(context.Context, *recorder, informed) (func() bool, func(), error){
		"typed": func(ctx context.Context, seen *recorder, told informed) (func() bool, func(), error) {
			client, err := versioned.NewForConfig(seen.wrap(e.admin))
			if err != nil {
				return nil, nil, err
			}
			factory := externalversions.NewSharedInformerFactoryWithOptions(client, 0, externalversions.WithNamespace(ns))
			informer := factory.Wardle().V1alpha1().Flunders().Informer()
			if _, err := informer.AddEventHandler(told.handler()); err != nil {
				return nil, nil, err
			}
			factory.Start(ctx.Done())
			return informer.HasSynced, factory.Shutdown, nil
		},
		"dynamic": func(ctx context.Context, seen *recorder, told informed) (func() bool, func(), error) {
			client, err := dynamicFor(seen.wrap(e.admin))
			if err != nil {
				return nil, nil, err
			}
			factory := dynamicinformer.NewFilteredDynamicSharedInformerFactory(client, 0, ns, nil)
			informer := factory.ForResource(flunders).Informer()
			if _, err := informer.AddEventHandler(told.handler()); err != nil {
				return nil, nil, err
			}
			factory.Start(ctx.Done())
			return informer.HasSynced, factory.Shutdown, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			var seen recorder
			told := informed{make(chan string, 10)}
			synced, shutdown, err := start(ctx, &seen, told)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { cancel(); shutdown() }()
			eventually(t, "the informer's list", func(context.Context) error {
				if !synced() {
					return errors.New("not synced")
				}
				return nil
			})
			for range 3 {
				<-told.names
			}
			requests := seen.below("flunders")
			if len(requests) != 1 {
				t.Fatalf("the informer made %d requests, want one: %+v", len(requests), requests)
			}
			request := requests[0]
			if !strings.Contains(request.query, "watch=true") || !strings.Contains(request.query, "sendInitialEvents=true") || request.code != 200 {
				t.Errorf("the request was %s, answered %d; want a watch with initial events", request.query, request.code)
			}
			if text := request.body.String(); !strings.Contains(text, `"k8s.io/initial-events-end":"true"`) {
				t.Errorf("no bookmark ended the initial events: %s", text)
			}
			if _, err := objects.Create(ctx, newFlunder("new-"+name, "x"), metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			if got := <-told.names; got != "new-"+name {
				t.Errorf("told of %s, want new-%s", got, name)
			}
			if err := objects.Delete(ctx, "new-"+name, metav1.DeleteOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
}
