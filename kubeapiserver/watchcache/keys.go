package watchcache

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/metadata"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/features"
	"k8s.io/apiserver/pkg/storage"
	etcdfeature "k8s.io/apiserver/pkg/storage/feature"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/klog/v2"
)

const (
	// keysAge is how long the keys of a resource are remembered at most.
	keysAge = 10 * time.Minute
	// keysRemembered is for how many keys of a resource: those of a large one
	// change all the time, and are read when they are asked for.
	keysRemembered = 4096
	// progressAge is how old an answer about progress may be before etcd is asked
	// again, which then happens within 132 s, the longest that counts are apart. With
	// the minute between bookmarks that is less than the age at which kube-apiserver
	// compacts by default, five minutes.
	progressAge = 90 * time.Second
	// progressLimit bounds the handing over of a question for progress.
	progressLimit = time.Second
)

// progressAgeFor is progressAge, or none where kube-apiserver is told to compact
// sooner than it does by default. Zero is never.
func progressAgeFor(compaction time.Duration) time.Duration {
	if compaction > 0 && compaction < storagebackend.DefaultCompactInterval {
		return 0
	}
	return progressAge
}

// rememberKeys is storage that tells a resource's keys again for as long as
// nothing has happened to the resource.
//
// Counts and sizes of each resource are taken about once a minute, by the keys
// in its watch cache. To know that these are the latest a cache asks etcd for
// its revision, and then for the progress of each of its watches: for each
// resource, whether something was written or not. For progress etcd is asked here
// too, about every other minute and without waiting for the answer: by it a cache, the
// bookmarks of its clients and the watch of etcd stay at a revision that is not
// compacted soon.
type rememberKeys struct {
	storage.Interface
	happened    *atomic.Uint64
	progressAge time.Duration // how old an answer about progress gets
}

// EnableResourceSizeEstimation implements storage.Interface.
func (s rememberKeys) EnableResourceSizeEstimation(keys storage.KeysFunc) error {
	if keys != nil {
		keys = (&keyMemory{read: keys, progress: s.progress, progressAge: s.progressAge, happened: s.happened}).keys
	}
	return s.Interface.EnableResourceSizeEstimation(keys)
}

// progress asks etcd for the progress of the cache's watch, as the cache does.
func (s rememberKeys) progress(ctx context.Context) error {
	if !etcdfeature.DefaultFeatureSupportChecker.Supports(storage.RequestWatchProgress) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, progressLimit)
	defer cancel()
	if utilfeature.DefaultFeatureGate.Enabled(features.SeparateCacheWatchRPC) {
		ctx = metadata.AppendToOutgoingContext(ctx, "source", "cache")
	}
	return s.RequestWatchProgress(ctx)
}

// Watch implements storage.Interface.
func (s rememberKeys) Watch(ctx context.Context, key string, opts storage.ListOptions) (watch.Interface, error) {
	s.happened.Add(1)
	return s.Interface.Watch(ctx, key, opts)
}

// GetList implements storage.Interface.
func (s rememberKeys) GetList(ctx context.Context, key string, opts storage.ListOptions, list apiruntime.Object) error {
	s.happened.Add(1)
	return s.Interface.GetList(ctx, key, opts, list)
}

// Create implements storage.Interface.
func (s rememberKeys) Create(ctx context.Context, key string, obj, out apiruntime.Object, ttl uint64) error {
	defer s.happened.Add(1)
	return s.Interface.Create(ctx, key, obj, out, ttl)
}

// Delete implements storage.Interface.
func (s rememberKeys) Delete(
	ctx context.Context, key string, out apiruntime.Object, preconditions *storage.Preconditions,
	validate storage.ValidateObjectFunc, cached apiruntime.Object, opts storage.DeleteOptions,
) error {
	defer s.happened.Add(1)
	return s.Interface.Delete(ctx, key, out, preconditions, validate, cached, opts)
}

// GuaranteedUpdate implements storage.Interface.
func (s rememberKeys) GuaranteedUpdate(
	ctx context.Context, key string, destination apiruntime.Object, ignoreNotFound bool,
	preconditions *storage.Preconditions, tryUpdate storage.UpdateFunc, cached apiruntime.Object,
) error {
	defer s.happened.Add(1)
	return s.Interface.GuaranteedUpdate(ctx, key, destination, ignoreNotFound, preconditions, tryUpdate, cached)
}

// keyMemory remembers the keys of a resource.
type keyMemory struct {
	read     storage.KeysFunc
	progress func(context.Context) error
	// progressAge is how old an answer about progress gets.
	progressAge time.Duration
	// happened counts what the watch cache was told: events, before it takes
	// them in, and lists and watches, before it begins them; and this server's own
	// writes, of which keys are then known before their event comes.
	happened *atomic.Uint64

	mu    sync.Mutex
	known []string // nil where nothing is known
	at    uint64   // what had happened before they were read
	since time.Time
	asked time.Time // for progress, alone or with the keys
}

// keys is a storage.KeysFunc. What it returns is not to be changed.
func (m *keyMemory) keys(ctx context.Context) ([]string, error) {
	at := m.happened.Load()
	m.mu.Lock()
	known := m.known
	if m.at != at || time.Since(m.since) >= keysAge {
		known = nil
	}
	asked := m.asked
	old := known != nil && time.Since(asked) >= m.progressAge
	if old {
		m.asked = time.Now()
	}
	m.mu.Unlock()
	if old {
		if err := m.progress(ctx); err != nil {
			klog.FromContext(ctx).V(4).Info("Asking etcd for progress failed", "err", err)
			m.mu.Lock()
			m.asked = asked // the next time is another chance
			m.mu.Unlock()
		}
	}
	if known != nil {
		return known, nil
	}

	// Whatever is counted from here on may be missing from the answer.
	since := time.Now()
	keys, err := m.read(ctx)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if at >= m.at {
		m.at, m.since, m.asked, m.known = at, since, since, nil
		if len(keys) <= keysRemembered {
			m.known = append(make([]string, 0, len(keys)), keys...)
		}
	}
	return keys, nil
}

// counting returns a key function that counts its calls: a watch cache asks
// for the key of each object that it is told of, before it takes it in.
func counting(key func(apiruntime.Object) (string, error), calls *atomic.Uint64) func(apiruntime.Object) (string, error) {
	return func(object apiruntime.Object) (string, error) {
		calls.Add(1)
		return key(object)
	}
}
