package ring_test

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/conversion"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/apis/example"
	"k8s.io/apiserver/pkg/storage"
	storagetesting "k8s.io/apiserver/pkg/storage/testing"

	"github.com/annex-api/annex/extension/internal/ring"
)

// TestUpstreamContract runs what k8s.io/apiserver checks its own etcd store and watch
// cache with, over a ring under the watch cache. The writers that these tests need are those of writable.
//
// Not run, with the reason:
//   - RunTestList, RunTestConsistentList, RunTestCompactRevision, RunTestListContinuation's kin with an
//     exact count: they say that the next resourceVersion is the last one and one, which
//     etcd promises and the API does not.
//   - RunTestListInconsistentContinuation, RunTestWatchFromZero: they compact at will; the window is tested in
//     TestScenarios and in the view.
//   - whatever needs a transformer, a TTL or the encoded form: nothing is encoded here.
func TestUpstreamContract(t *testing.T) {
	if !ring.SupportWatchList(t.Context()) {
		t.Fatal("the watch cache will not serve watches with initial events")
	}
	plain := map[string]func(context.Context, *testing.T, storage.Interface){
		"Get":                                    storagetesting.RunTestGet,
		"GetListRecursivePrefix":                 storagetesting.RunTestGetListRecursivePrefix,
		"ListPaging":                             storagetesting.RunTestListPaging,
		"NamespaceScopedList":                    storagetesting.RunTestNamespaceScopedList,
		"Watch":                                  storagetesting.RunTestWatch,
		"DeleteTriggerWatch":                     storagetesting.RunTestDeleteTriggerWatch,
		"WatchFromNonZero":                       storagetesting.RunTestWatchFromNonZero,
		"DelayedWatchDelivery":                   storagetesting.RunTestDelayedWatchDelivery,
		"WatcherTimeout":                         storagetesting.RunTestWatcherTimeout,
		"WatchDeleteEventObjectHaveLatestRV":     storagetesting.RunTestWatchDeleteEventObjectHaveLatestRV,
		"WatchInitializationSignal":              storagetesting.RunTestWatchInitializationSignal,
		"NamespaceScopedWatch":                   storagetesting.RunTestNamespaceScopedWatch,
		"BookmarksWithCorrectResourceVersion":    storagetesting.RunTestOptionalWatchBookmarksWithCorrectResourceVersion,
		"SendInitialEventsBackwardCompatibility": storagetesting.RunSendInitialEventsBackwardCompatibility,
		"WatchSemantics":                         storagetesting.RunWatchSemantics,
		"WatchSemanticInitialEventsExtended":     storagetesting.RunWatchSemanticInitialEventsExtended,
		"WatchListMatchSingle":                   storagetesting.RunWatchListMatchSingle,
		"WatchDispatchBookmarkEvents": func(ctx context.Context, t *testing.T, s storage.Interface) {
			storagetesting.RunTestWatchDispatchBookmarkEvents(ctx, t, s, true)
		},
		"GetListNonRecursive": func(ctx context.Context, t *testing.T, s storage.Interface) {
			storagetesting.RunTestGetListNonRecursive(ctx, t, func(ctx context.Context, t *testing.T) int64 {
				return anotherPod(ctx, t, s)
			}, s)
		},
		"ListContinuation": func(ctx context.Context, t *testing.T, s storage.Interface) {
			storagetesting.RunTestListContinuation(ctx, t, s, anyNumberOfCalls)
		},
		"ListContinuationWithFilter": func(ctx context.Context, t *testing.T, s storage.Interface) {
			storagetesting.RunTestListContinuationWithFilter(ctx, t, s, anyNumberOfCalls)
		},
	}
	for name, run := range plain {
		t.Run(name, func(t *testing.T) { run(t.Context(), t, newWritable(t, true)) })
	}
	t.Run("ClusterScopedWatch", func(t *testing.T) {
		storagetesting.RunTestClusterScopedWatch(t.Context(), t, newWritable(t, false))
	})
	t.Run("ListPaginationRareObject", func(t *testing.T) {
		storagetesting.RunTestListPaginationRareObject(t.Context(), t, newWritable(t, false), anyNumberOfCalls)
	})
}

func anyNumberOfCalls(*testing.T, uint64, uint64) {}

// anotherPod makes the resourceVersion grow.
func anotherPod(ctx context.Context, t *testing.T, s storage.Interface) int64 {
	var out example.Pod
	pod := &example.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "elsewhere", Name: "another"}}
	if err := s.Create(ctx, "/pods/elsewhere/another", pod, &out, 0); err != nil {
		t.Fatal(err)
	}
	v, err := strconv.ParseInt(out.ResourceVersion, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// writable gives a cache over a ring the writers that upstream's tests need.
type writable struct {
	*ring.Cache
	first string
}

func newWritable(t *testing.T, namespaced bool) writable {
	t.Helper()
	s, err := ring.NewStorage(ring.Config{
		Resource:   schema.GroupResource{Resource: "pods"},
		Namespaced: namespaced,
		New:        func() runtime.Object { return &example.Pod{} },
		NewList:    func() runtime.Object { return &example.PodList{} },
		Attributes: podAttributes,
		Replica:    ring.NewReplica(),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Update(nil); err != nil {
		t.Fatal(err)
	}
	cache, err := ring.NewCache(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cache.Stop)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := cache.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	first, err := s.GetCurrentResourceVersion(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return writable{cache, strconv.FormatUint(first, 10)}
}

// Watch takes the first revision of an etcd, from which upstream's tests watch, for
// the first resourceVersion of the ring.
func (w writable) Watch(ctx context.Context, key string, opts storage.ListOptions) (watch.Interface, error) {
	if opts.ResourceVersion == "1" {
		opts.ResourceVersion = w.first
	}
	return w.Cache.Watch(ctx, key, opts)
}

func podAttributes(o runtime.Object) (labels.Set, fields.Set, error) {
	pod, ok := o.(*example.Pod)
	if !ok {
		return nil, nil, errors.New("not a pod")
	}
	return pod.Labels, fields.Set{
		"metadata.name": pod.Name, "metadata.namespace": pod.Namespace,
		"spec.nodeName": pod.Spec.NodeName, "status.phase": string(pod.Status.Phase),
	}, nil
}

// put writes, waits until the cache has it, and reads it.
func (w writable) put(ctx context.Context, object, out runtime.Object) error {
	if err := w.Ring.Put(object); err != nil {
		return err
	}
	m, err := meta.Accessor(object)
	if err != nil {
		return err
	}
	key := w.Ring.Key(m.GetNamespace(), m.GetName())
	written := w.New()
	if err := w.Ring.Get(ctx, key, storage.GetOptions{}, written); err != nil {
		return err
	}
	v, err := w.Ring.Versioner().ObjectResourceVersion(written)
	if err != nil {
		return err
	}
	if err := w.Get(ctx, key, storage.GetOptions{ResourceVersion: strconv.FormatUint(v, 10)}, w.New()); err != nil {
		return err
	}
	return assign(written, out)
}

func assign(from, to runtime.Object) error {
	if to == nil {
		return nil
	}
	target, err := conversion.EnforcePtr(to)
	if err != nil {
		return err
	}
	source, err := conversion.EnforcePtr(from.DeepCopyObject())
	if err != nil {
		return err
	}
	target.Set(source)
	return nil
}

func (w writable) Create(ctx context.Context, key string, object, out runtime.Object, _ uint64) error {
	if err := w.Ring.Get(ctx, key, storage.GetOptions{}, w.New()); err == nil {
		return storage.NewKeyExistsError(key, 0)
	}
	return w.put(ctx, object, out)
}

func (w writable) Delete(ctx context.Context, key string, out runtime.Object, conditions *storage.Preconditions, validate storage.ValidateObjectFunc, _ runtime.Object, _ storage.DeleteOptions) error {
	old := w.New()
	if err := w.Ring.Get(ctx, key, storage.GetOptions{}, old); err != nil {
		return err
	}
	if err := conditions.Check(key, old); err != nil {
		return err
	}
	if err := validate(ctx, old); err != nil {
		return err
	}
	m, err := meta.Accessor(old)
	if err != nil {
		return err
	}
	w.Ring.Remove(m.GetNamespace(), m.GetName())
	last, err := w.Ring.GetCurrentResourceVersion(ctx)
	if err != nil {
		return err
	}
	gone := old.DeepCopyObject()
	if err := w.Ring.Versioner().UpdateObject(gone, last); err != nil {
		return err
	}
	return assign(gone, out)
}

func (w writable) GuaranteedUpdate(ctx context.Context, key string, out runtime.Object, ignoreNotFound bool, conditions *storage.Preconditions, update storage.UpdateFunc, _ runtime.Object) error {
	old := w.New()
	if err := w.Ring.Get(ctx, key, storage.GetOptions{IgnoreNotFound: ignoreNotFound}, old); err != nil {
		return err
	}
	if err := conditions.Check(key, old); err != nil {
		return err
	}
	v, err := w.Ring.Versioner().ObjectResourceVersion(old)
	if err != nil {
		return err
	}
	changed, _, err := update(old.DeepCopyObject(), storage.ResponseMeta{ResourceVersion: v})
	if err != nil {
		return err
	}
	return w.put(ctx, changed, out)
}
