package watchcache

import (
	"context"
	"errors"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apiserver/pkg/features"
	"k8s.io/apiserver/pkg/registry/generic"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/cacher"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/annex-api/annex/kubeapiserver/etcd"
)

// reader is a storage.KeysFunc that counts its calls.
type reader struct {
	calls int
	keys  []string
	err   error
	while func() // what happens while it reads
}

func (r *reader) read(context.Context) ([]string, error) {
	r.calls++
	if while := r.while; while != nil {
		r.while = nil
		while()
	}
	return r.keys, r.err
}

// What a watch cache knows stays younger than what is compacted: its longest age
// and pause, and the minute between bookmarks.
func TestProgressIsAskedForBeforeCompaction(t *testing.T) {
	const counts, bookmarks = 132 * time.Second, time.Minute
	for compaction, want := range map[time.Duration]time.Duration{
		0: progressAge, time.Second: 0, 5*time.Minute - 1: 0, 5 * time.Minute: progressAge, time.Hour: progressAge,
	} {
		got := progressAgeFor(compaction)
		if got != want {
			t.Errorf("compaction every %v: asked after %v, want %v", compaction, got, want)
		}
		if got > 0 && compaction > 0 && got+counts+bookmarks >= compaction {
			t.Errorf("compaction every %v overtakes bookmarks that are %v old", compaction, got+counts+bookmarks)
		}
	}
}

func TestKeysAreReadWhereSomethingHappened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var happened atomic.Uint64
		key := counting(func(apiruntime.Object) (string, error) { return "k", nil }, &happened)
		r := &reader{keys: []string{}}
		asked, failed := 0, error(nil)
		m := &keyMemory{read: r.read, progress: func(context.Context) error { asked++; return failed }, progressAge: progressAge, happened: &happened}
		want := func(when string, calls, keys int) {
			t.Helper()
			got, err := m.keys(t.Context())
			if err != nil || len(got) != keys || r.calls != calls {
				t.Errorf("%s: %d keys after %d reads, error %v; want %d after %d", when, len(got), r.calls, err, keys, calls)
			}
		}
		want("at first", 1, 0)
		want("of nothing, again", 1, 0)
		time.Sleep(progressAge - time.Second)
		want("of nothing, a little later", 1, 0)
		if asked != 0 {
			t.Errorf("asked for progress %d times, want none: reading does so itself", asked)
		}
		time.Sleep(time.Second)
		want("of nothing, later", 1, 0)
		want("of nothing, again", 1, 0)
		if asked != 1 {
			t.Errorf("asked for progress %d times, want once", asked)
		}
		time.Sleep(progressAge)
		failed = errors.New("etcd is away")
		want("of nothing, while etcd is away", 1, 0)
		failed = nil
		want("of nothing, when it is back", 1, 0)
		want("of nothing, again", 1, 0)
		if asked != 3 {
			t.Errorf("asked for progress %d times, want once more, and again after that failed", asked)
		}

		r.keys = []string{"a"}
		if _, err := key(&corev1.Pod{}); err != nil {
			t.Fatal(err)
		}
		want("after an event", 2, 1)
		want("again", 2, 1)

		happened.Add(1)
		r.while = func() { happened.Add(1) }
		want("with an event during the read", 3, 1)
		want("after an event during the read", 4, 1)
		want("again", 4, 1)

		time.Sleep(keysAge - time.Second)
		want("before their age", 4, 1)
		time.Sleep(time.Second)
		want("at their age", 5, 1)

		happened.Add(1)
		r.err = errors.New("etcd is away")
		if _, err := m.keys(t.Context()); !errors.Is(err, r.err) {
			t.Errorf("error %v, want %v", err, r.err)
		}
		r.err = nil
		want("after an error", 7, 1)

		r.keys = make([]string, keysRemembered+1)
		happened.Add(1)
		want("of a large resource", 8, keysRemembered+1)
		want("of a large resource, again", 9, keysRemembered+1)
		r.keys = r.keys[:keysRemembered]
		want("of a resource that shrank", 10, keysRemembered)
		want("again", 10, keysRemembered)
	})
}

// A slow read that began earlier does not replace what a later one brought.
func TestKeysOfAnOverlappingRead(t *testing.T) {
	var happened atomic.Uint64
	r := &reader{}
	m := &keyMemory{read: r.read, progress: func(context.Context) error { return nil }, happened: &happened}
	r.while = func() {
		happened.Add(1)
		r.keys = []string{"new"}
		if _, err := m.keys(t.Context()); err != nil {
			t.Error(err)
		}
		r.keys = nil // what the earlier one saw
	}
	if _, err := m.keys(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, err := m.keys(t.Context())
	if err != nil || len(got) != 1 || r.calls != 2 {
		t.Errorf("%v after %d reads, error %v; want the new one after 2", got, r.calls, err)
	}
}

// The count of a resource follows what is written to a real etcd, and is
// taken from memory while nothing is.
func TestCountsOfARealStorage(t *testing.T) {
	if !utilfeature.DefaultFeatureGate.Enabled(features.SizeBasedListCostEstimate) {
		t.Fatal("sizes are no longer estimated: keys need not be remembered")
	}
	member, err := etcd.Start(t.Context(), etcd.Options{Dir: filepath.Join(t.TempDir(), "etcd")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := member.Stop(); err != nil {
			t.Error(err)
		}
	})
	config := storagebackend.NewDefaultConfig("registry", apiruntime.NewCodec(
		scheme.Codecs.LegacyCodec(corev1.SchemeGroupVersion), scheme.Codecs.UniversalDeserializer()))
	config.Transport.ServerList = []string{member.Endpoint()}
	resource := config.ForResource(schema.GroupResource{Resource: "configmaps"})
	raw, destroyRaw, err := generic.NewRawStorage(resource, newConfigMap, newConfigMaps, "/configmaps")
	if err != nil {
		t.Fatal(err)
	}
	reads := &countedReads{Interface: raw}
	cached, destroy, err := cached(reads, destroyRaw, 0, cacher.Config{
		GroupResource:       resource.GroupResource,
		EventsHistoryWindow: config.EventsHistoryWindow,
		ResourcePrefix:      "/configmaps",
		KeyFunc: func(o apiruntime.Object) (string, error) {
			return "/configmaps/default/" + o.(*corev1.ConfigMap).Name, nil
		},
		NewFunc:      newConfigMap,
		NewListFunc:  newConfigMaps,
		GetAttrsFunc: storage.DefaultNamespaceScopedAttr,
		Codec:        config.Codec,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(destroy)

	count := func() int64 {
		t.Helper()
		stats, err := cached.Stats(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return stats.ObjectCount
	}
	eventually := func(want int64) {
		t.Helper()
		err := wait.PollUntilContextTimeout(t.Context(), 10*time.Millisecond, 30*time.Second, true, func(context.Context) (bool, error) {
			return count() == want, nil
		})
		if err != nil {
			t.Fatalf("counted %d, want %d", count(), want)
		}
	}
	atRest := func(want int64) {
		t.Helper()
		count() // what happened while the last keys were read makes them be read once more
		before := reads.keys.Load()
		for range 100 {
			if got := count(); got != want {
				t.Fatalf("counted %d, want %d", got, want)
			}
		}
		if after := reads.keys.Load(); after != before {
			t.Errorf("keys were read %d times for 100 counts while nothing happened", after-before)
		}
	}
	create := func(name string) {
		t.Helper()
		object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
		if err := cached.Create(t.Context(), "/configmaps/default/"+name, object, nil, 0); err != nil {
			t.Fatal(err)
		}
	}

	if err := wait.PollUntilContextTimeout(t.Context(), 10*time.Millisecond, 30*time.Second, true, func(context.Context) (bool, error) {
		return cached.ReadinessCheck() == nil, nil
	}); err != nil {
		t.Fatal(err)
	}
	eventually(0)
	atRest(0)
	create("a")
	create("b")
	if got := count(); got != 2 { // its own writes a server knows at once
		t.Errorf("counted %d after two were created", got)
	}
	atRest(2)
	if err := cached.Delete(t.Context(), "/configmaps/default/a", &corev1.ConfigMap{}, nil, storage.ValidateAllObjectFunc, nil, storage.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := count(); got != 1 {
		t.Errorf("counted %d after one of two was deleted", got)
	}
	atRest(1)
	another := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "c"}}
	if err := raw.Create(t.Context(), "/configmaps/default/c", another, nil, 0); err != nil { // by another server
		t.Fatal(err)
	}
	eventually(2)
	atRest(2)

	// What is written elsewhere moves the cache on, though its keys stay.
	elsewhere, destroyElsewhere, err := generic.NewRawStorage(resource, newConfigMap, newConfigMaps, "/elsewhere")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(destroyElsewhere)
	different := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "d"}}
	if err := elsewhere.Create(t.Context(), "/elsewhere/d", different, nil, 0); err != nil {
		t.Fatal(err)
	}
	now, err := raw.GetCurrentResourceVersion(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	before := reads.keys.Load()
	err = wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, 30*time.Second, true, func(ctx context.Context) (bool, error) {
		count()
		list := &corev1.ConfigMapList{}
		if err := cached.GetList(ctx, "/configmaps", storage.ListOptions{ResourceVersion: "0", Predicate: storage.Everything, Recursive: true}, list); err != nil {
			return false, err
		}
		at, err := storage.APIObjectVersioner{}.ParseResourceVersion(list.ResourceVersion)
		return at >= now, err
	})
	if after := reads.keys.Load(); err != nil || after != before {
		t.Errorf("error %v, keys read %d times; want the cache at revision %d and none read", err, after-before, now)
	}
}

func newConfigMap() apiruntime.Object  { return &corev1.ConfigMap{} }
func newConfigMaps() apiruntime.Object { return &corev1.ConfigMapList{} }

// countedReads is storage that counts how often it is asked for its revision:
// once for each time that the keys of a watch cache are read.
type countedReads struct {
	storage.Interface
	keys atomic.Int64
}

// GetCurrentResourceVersion implements storage.Interface.
func (s *countedReads) GetCurrentResourceVersion(ctx context.Context) (uint64, error) {
	s.keys.Add(1)
	return s.Interface.GetCurrentResourceVersion(ctx)
}
