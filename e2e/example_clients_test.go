package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/gentype"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	ctrlcache "sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// madeBy selects what one client has made, and everything of what is read-only.
func (s *served) madeBy(who string) string {
	if s.readOnly {
		return ""
	}
	return "made-by=" + who
}

// next is the next event of a watch that is no bookmark.
func next(t *testing.T, events watch.Interface) watch.Event {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		select {
		case e, ok := <-events.ResultChan():
			if !ok || e.Type == watch.Error {
				t.Fatalf("the watch ended with %v", e)
			}
			if e.Type != watch.Bookmark {
				return e
			}
		case <-timer.C:
			t.Fatal("no event")
		}
	}
}

// clientGoOfExample is what the typed clientsets that client-gen makes are built of.
func clientGoOfExample(t *testing.T, s *served) {
	ctx := t.Context()
	scheme, gv := s.scheme(), s.resource.GroupVersion()
	config := rest.CopyConfig(s.admin)
	config.GroupVersion, config.APIPath = &gv, "/apis"
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	sender, err := rest.RESTClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	c := gentype.NewClientWithList(s.resource.Resource, sender, runtime.NewParameterCodec(scheme), s.namespace, s.typed.newObject, s.typed.newList)
	made := metav1.ListOptions{LabelSelector: s.madeBy("client-go")}
	events, err := c.Watch(ctx, made)
	if err != nil {
		t.Fatal(err)
	}
	defer events.Stop()
	if s.readOnly {
		if e := next(t, events); e.Type != watch.Added {
			t.Errorf("the first event is %s, want ADDED", e.Type)
		}
		one, err := c.Get(ctx, "cpu0", metav1.GetOptions{})
		if err != nil || one.GetResourceVersion() == "" {
			t.Errorf("get: %v, %v", one, err)
		}
		if list, err := c.List(ctx, made); err != nil || apimeta.LenList(list) == 0 {
			t.Errorf("list: %v, %v", list, err)
		}
		if err := c.Delete(ctx, "cpu0", metav1.DeleteOptions{}); !apierrors.IsMethodNotSupported(err) {
			t.Errorf("delete of what is computed: %v, want 405", err)
		}
		return
	}
	object := s.typed.newObject()
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(s.object(t, "client-go", "client-go").Object, object); err != nil {
		t.Fatal(err)
	}
	one, err := c.Create(ctx, object, metav1.CreateOptions{FieldManager: "client-go"})
	if err != nil || one.GetUID() == "" {
		t.Fatalf("create: %v, %v", one, err)
	}
	if _, err := c.Create(ctx, object, metav1.CreateOptions{}); !apierrors.IsAlreadyExists(err) {
		t.Errorf("a second create: %v, want that it exists", err)
	}
	changed := one.DeepCopyObject().(client.Object)
	changed.SetAnnotations(map[string]string{"a": "b"})
	if updated, err := c.Update(ctx, changed, metav1.UpdateOptions{}); err != nil || updated.GetAnnotations()["a"] != "b" {
		t.Errorf("update: %v, %v", updated, err)
	}
	if _, err := c.Update(ctx, one, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
		t.Errorf("update of an old version: %v, want a conflict", err)
	}
	if patched, err := c.Patch(ctx, "client-go", types.MergePatchType, []byte(s.patch), metav1.PatchOptions{}); err != nil || patched.GetResourceVersion() == one.GetResourceVersion() {
		t.Errorf("patch: %v, %v", patched, err)
	}
	if list, err := c.List(ctx, made); err != nil || apimeta.LenList(list) != 1 {
		t.Errorf("list: %d objects, %v; want 1", apimeta.LenList(list), err)
	}
	if err := c.DeleteCollection(ctx, metav1.DeleteOptions{}, made); err != nil {
		t.Errorf("delete the collection: %v", err)
	}
	if _, err := c.Get(ctx, "client-go", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("get of what is deleted: %v, want that it is not found", err)
	}
	for _, want := range []watch.EventType{watch.Added, watch.Modified, watch.Modified, watch.Deleted} {
		e := next(t, events)
		if o, ok := e.Object.(client.Object); !ok || e.Type != want || o.GetName() != "client-go" {
			t.Errorf("the watch has %s of %T %v, want %s", e.Type, e.Object, e.Object, want)
		}
	}
}

// controllerRuntimeOfExample is the client that controllers have.
func controllerRuntimeOfExample(t *testing.T, s *served) {
	ctx := t.Context()
	c, err := client.NewWithWatch(s.admin, client.Options{Scheme: s.scheme()})
	if err != nil {
		t.Fatal(err)
	}
	made := client.MatchingLabels{"made-by": "typed"}
	if s.readOnly {
		made = nil
	}
	events, err := c.Watch(ctx, s.typed.newList(), client.InNamespace(s.namespace), made)
	if err != nil {
		t.Fatal(err)
	}
	defer events.Stop()
	one := s.typed.newObject()
	if s.readOnly {
		if e := next(t, events); e.Type != watch.Added {
			t.Errorf("the first event is %s, want ADDED", e.Type)
		}
		if err := c.Get(ctx, client.ObjectKey{Name: "cpu0"}, one); err != nil || one.GetResourceVersion() == "" {
			t.Errorf("get: %v, %v", err, one)
		}
		one.SetName("cpu-new")
		one.SetResourceVersion("")
		if err := c.Create(ctx, one); !apierrors.IsMethodNotSupported(err) {
			t.Errorf("create of what is computed: %v, want 405", err)
		}
		return
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(s.object(t, "typed", "typed").Object, one); err != nil {
		t.Fatal(err)
	}
	if err := c.Create(ctx, one); err != nil || one.GetUID() == "" {
		t.Fatalf("create: %v, %v", one, err)
	}
	stale := one.DeepCopyObject().(client.Object)
	one.SetAnnotations(map[string]string{"a": "b"})
	if err := c.Update(ctx, one); err != nil {
		t.Errorf("update: %v", err)
	}
	stale.SetAnnotations(map[string]string{"a": "c"})
	if err := c.Update(ctx, stale); !apierrors.IsConflict(err) {
		t.Errorf("update of an old version: %v, want a conflict", err)
	}
	if err := c.Patch(ctx, one, client.RawPatch(types.MergePatchType, []byte(s.patch))); err != nil {
		t.Errorf("patch: %v", err)
	}
	list := s.typed.newList()
	if err := c.List(ctx, list, client.InNamespace(s.namespace), made); err != nil || apimeta.LenList(list) != 1 {
		t.Errorf("list: %d objects, %v; want 1", apimeta.LenList(list), err)
	}
	if err := c.Delete(ctx, one, client.Preconditions{UID: new(one.GetUID())}); err != nil {
		t.Errorf("delete: %v", err)
	}
	if err := c.Get(ctx, client.ObjectKeyFromObject(one), one); !apierrors.IsNotFound(err) {
		t.Errorf("get of what is deleted: %v, want that it is not found", err)
	}
	for _, want := range []watch.EventType{watch.Added, watch.Modified, watch.Modified, watch.Deleted} {
		if e := next(t, events); e.Type != want || e.Object.(client.Object).GetName() != "typed" {
			t.Errorf("the watch has %s, want %s", e.Type, want)
		}
	}
}

func dynamicClientOfExample(t *testing.T, s *served) {
	ctx := t.Context()
	if s.readOnly {
		list, err := s.objects.List(ctx, metav1.ListOptions{Limit: 1})
		if err != nil || len(list.Items) != 1 || list.GetKind() != s.kind+"List" {
			t.Errorf("a page of one: %v, %v", list, err)
		}
		if _, err := s.objects.Get(ctx, "none", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("get of what there is not: %v, want that it is not found", err)
		}
		return
	}
	for i := range 3 {
		if _, err := s.objects.Create(ctx, s.object(t, fmt.Sprintf("dynamic-%d", i), "dynamic"), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	_, err := s.objects.Create(ctx, s.object(t, "dynamic-0", "dynamic"), metav1.CreateOptions{})
	if !apierrors.IsAlreadyExists(err) {
		t.Errorf("a second create: %v, want that it exists", err)
	}
	var names []string
	for o := (metav1.ListOptions{Limit: 2, LabelSelector: "made-by=dynamic", FieldSelector: s.selector}); ; {
		page, err := s.objects.List(ctx, o)
		if err != nil {
			t.Fatal(err)
		}
		for _, item := range page.Items {
			names = append(names, item.GetName())
		}
		if o.Continue = page.GetContinue(); o.Continue == "" {
			break
		}
	}
	if want := []string{"dynamic-0", "dynamic-1", "dynamic-2"}; !slices.Equal(names, want) {
		t.Errorf("pages by label and field %s have %v, want %v", s.selector, names, want)
	}
	apply := s.object(t, "dynamic-apply", "dynamic")
	applied, err := s.objects.Apply(ctx, apply.GetName(), apply, metav1.ApplyOptions{FieldManager: "e2e"})
	if err != nil || len(applied.GetManagedFields()) == 0 {
		t.Errorf("apply: %v, %v", applied, err)
	}
	again, err := s.objects.Apply(ctx, apply.GetName(), apply, metav1.ApplyOptions{FieldManager: "e2e"})
	if err != nil || applied != nil && again.GetResourceVersion() != applied.GetResourceVersion() {
		t.Errorf("the same applied again: %v, %v; want no write", again, err)
	}
	dry := metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}}
	if _, err := s.objects.Patch(ctx, "dynamic-0", types.MergePatchType, []byte(s.patch), dry); err != nil {
		t.Errorf("dry run: %v", err)
	}
	unknown := s.object(t, "dynamic-strict", "dynamic")
	unknown.Object["unknown"] = "field"
	if _, err := s.objects.Create(ctx, unknown, metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict}); !apierrors.IsBadRequest(err) {
		t.Errorf("an unknown field: %v, want that it is refused", err)
	}
	if err := s.objects.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "made-by=dynamic"}); err != nil {
		t.Errorf("delete the collection: %v", err)
	}
	if left, err := s.objects.List(ctx, metav1.ListOptions{LabelSelector: "made-by=dynamic"}); err != nil || len(left.Items) != 0 {
		t.Errorf("%v are left, %v", left, err)
	}
}

func metadataClientOfExample(t *testing.T, s *served) {
	ctx := t.Context()
	getter, err := metadata.NewForConfig(s.admin)
	if err != nil {
		t.Fatal(err)
	}
	var all metadata.ResourceInterface = getter.Resource(s.resource)
	if !s.readOnly {
		all = getter.Resource(s.resource).Namespace(s.namespace)
		if _, err := s.objects.Create(ctx, s.object(t, "metadata", "metadata"), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	selected := metav1.ListOptions{LabelSelector: s.madeBy("metadata")}
	list, err := all.List(ctx, selected)
	if err != nil || len(list.Items) == 0 {
		t.Fatalf("list: %v, %v", list, err)
	}
	name := list.Items[0].Name
	selected.ResourceVersion = list.ResourceVersion
	events, err := all.Watch(ctx, selected)
	if err != nil {
		t.Fatal(err)
	}
	defer events.Stop()
	if !s.readOnly {
		patched, err := all.Patch(ctx, name, types.MergePatchType, []byte(`{"metadata":{"annotations":{"a":"b"}}}`), metav1.PatchOptions{})
		if err != nil || patched.Annotations["a"] != "b" {
			t.Errorf("patch: %v, %v", patched, err)
		}
	}
	// What is computed changes by itself.
	if e := next(t, events); e.Type != watch.Modified {
		t.Errorf("the watch has %s, want MODIFIED", e.Type)
	} else if o, ok := e.Object.(*metav1.PartialObjectMetadata); !ok || o.Name == "" {
		t.Errorf("the watch has %T %v, want the metadata of an object", e.Object, e.Object)
	}
	if !s.readOnly {
		if err := all.Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
			t.Errorf("delete: %v", err)
		}
	}
}

func informerWithWatchList(t *testing.T, s *served)    { s.informer(t, "with", true) }
func informerWithoutWatchList(t *testing.T, s *served) { s.informer(t, "without", false) }

// listsAndWatches says of a client that it cannot stream lists.
type listsAndWatches struct{}

func (listsAndWatches) IsWatchListSemanticsUnSupported() bool { return true }

// informer runs client-go's, and asserts by which requests it got its list.
func (s *served) informer(t *testing.T, who string, watchList bool) {
	t.Helper()
	name := "informer-" + who
	if !s.readOnly {
		if _, err := s.objects.Create(t.Context(), s.object(t, name+"-old", name), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	var seen recorder
	recorded, err := dynamicFor(seen.wrap(s.admin))
	if err != nil {
		t.Fatal(err)
	}
	objects := recorded.Resource(s.resource).Namespace(s.namespace)
	selected := func(o metav1.ListOptions) metav1.ListOptions {
		o.LabelSelector = s.madeBy(name)
		return o
	}
	var able any = recorded
	if !watchList {
		able = listsAndWatches{}
	}
	informer := cache.NewSharedIndexInformer(cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			return objects.List(ctx, selected(o))
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return objects.Watch(ctx, selected(o))
		},
	}, able), &unstructured.Unstructured{}, 0, nil)
	told := make(chan string, 1000)
	tell := func(what string) func(any) {
		return func(obj any) {
			if o, ok := obj.(metav1.Object); ok {
				told <- what + " " + o.GetName()
			}
		}
	}
	if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: tell("added"), DeleteFunc: tell("deleted"), UpdateFunc: func(_, obj any) { tell("updated")(obj) },
	}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		informer.RunWithContext(ctx)
	}()
	defer func() { cancel(); <-ended }()
	await := func(want string) {
		t.Helper()
		timer := time.NewTimer(patience)
		defer timer.Stop()
		for {
			select {
			case got := <-told:
				if strings.HasPrefix(got, want) {
					return
				}
			case <-timer.C:
				t.Fatalf("the informer does not tell that it %s", want)
			}
		}
	}
	if s.readOnly {
		await("added cpu")
		await("updated cpu")
	} else {
		await("added " + name + "-old")
		if _, err := s.objects.Create(ctx, s.object(t, name+"-new", name), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		await("added " + name + "-new")
		if err := s.objects.Delete(ctx, name+"-old", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		await("deleted " + name + "-old")
	}
	requests := seen.below(s.resource.Resource)
	streamed := strings.Contains(requests[0].query, "sendInitialEvents=true")
	listed := !strings.Contains(requests[0].query, "watch=true")
	if streamed != watchList || listed == watchList {
		t.Errorf("its first request was ?%s", requests[0].query)
	}
	for _, r := range requests {
		if r.code != 200 {
			t.Errorf("%s?%s was answered %d: %s", r.path, r.query, r.code, r.body)
		}
	}
}

// cacheOfExample is what a manager of controllers reads from.
func cacheOfExample(t *testing.T, s *served) {
	scheme := s.scheme()
	c, err := client.New(s.admin, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	o := ctrlcache.Options{Scheme: scheme}
	if !s.readOnly {
		o.DefaultNamespaces = map[string]ctrlcache.Config{s.namespace: {}}
	}
	cached, err := ctrlcache.New(s.admin, o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- cached.Start(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the cache ended with %v", err)
		}
	}()
	synced, stop := context.WithTimeout(ctx, patience)
	defer stop()
	if _, err := cached.GetInformer(synced, s.typed.newObject()); err != nil {
		t.Fatal(err)
	}
	key := client.ObjectKey{Namespace: s.namespace, Name: "cached"}
	if s.readOnly {
		key = client.ObjectKey{Name: "cpu0"}
	} else {
		one := s.typed.newObject()
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(s.object(t, key.Name, "cache").Object, one); err != nil {
			t.Fatal(err)
		}
		if err := c.Create(ctx, one); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := c.Delete(ctx, one); err != nil {
				t.Errorf("delete: %v", err)
			}
		}()
	}
	eventually(t, "the cache has "+key.String(), func(ctx context.Context) error {
		return cached.Get(ctx, key, s.typed.newObject())
	})
	list := s.typed.newList()
	if err := cached.List(ctx, list); err != nil || apimeta.LenList(list) == 0 {
		t.Errorf("the cache lists %d objects, %v", apimeta.LenList(list), err)
	}
}
