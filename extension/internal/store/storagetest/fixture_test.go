package storagetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"k8s.io/apimachinery/pkg/api/apitesting"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apiserver/pkg/apis/example"
	examplev1 "k8s.io/apiserver/pkg/apis/example/v1"
	"k8s.io/apiserver/pkg/features"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/cacher"
	"k8s.io/apiserver/pkg/storage/etcd3"
	storagetesting "k8s.io/apiserver/pkg/storage/testing"
	"k8s.io/apiserver/pkg/storage/value"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	clientfeatures "k8s.io/client-go/features"
	"k8s.io/client-go/tools/cache"
	featuregatetesting "k8s.io/component-base/featuregate/testing"
	"k8s.io/utils/clock"

	endpoints "github.com/annex-api/annex/extension/storage"
)

const (
	valuePrefix    = "test!"
	resourcePrefix = "/pods/"
	limit          = time.Minute
)

// fixture is one storage in a test: the etcd3 store over it, and what tests look at beside it.
type fixture struct {
	store       storage.Interface
	client      *kubernetes.Client
	recorder    *storagetesting.KubernetesRecorder
	codec       *failingCodec
	transformer *swappedTransformer
	prefix      *storagetesting.PrefixTransformer
}

// set makes the fixture as internal/store does, with what tests swap.
func set(t *testing.T, endpoint *endpoints.Endpoint, f function) *fixture {
	t.Helper()
	if f.name == withoutAggregation {
		featuregatetesting.SetFeatureGateDuringTest(t, utilfeature.DefaultFeatureGate, features.AllowUnsafeMalformedObjectDeletion, false)
	}
	if endpoint.Close != nil {
		t.Cleanup(func() {
			if err := endpoint.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	var options []grpc.DialOption
	if endpoint.Dial != nil {
		options = append(options, grpc.WithContextDialer(endpoint.Dial))
	}
	client, err := kubernetes.New(clientv3.Config{Endpoints: endpoint.Targets, DialOptions: options, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() }) // says that it was closed
	untilOpen(t, client)
	made := &fixture{
		client:   client,
		recorder: storagetesting.NewKubernetesRecorder(client.Kubernetes),
		codec:    newCodec(t),
		prefix:   storagetesting.NewPrefixTransformer([]byte(valuePrefix), false),
	}
	client.KV = storagetesting.NewKVRecorder(client.KV, made.recorder)
	client.Kubernetes = made.recorder
	made.transformer = &swappedTransformer{now: made.prefix}
	compactor := etcd3.NewCompactor(client.Client, 0, clock.RealClock{}, nil)
	t.Cleanup(compactor.Stop)
	leases := etcd3.NewDefaultLeaseManagerConfig()
	leases.ReuseDurationSeconds = f.leaseReuse()
	versioner := storage.APIObjectVersioner{}
	store, err := etcd3.New(client, compactor, made.codec, newPod, newPodList, "", resourcePrefix, schema.GroupResource{Resource: "pods"},
		made.transformer, leases, etcd3.NewDefaultDecoder(made.codec, versioner), versioner)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	made.store = store
	return made
}

// untilOpen waits for a database that is opened behind the endpoint.
func untilOpen(t *testing.T, client *kubernetes.Client) {
	t.Helper()
	var last error
	err := wait.PollUntilContextTimeout(t.Context(), 10*time.Millisecond, limit, true, func(ctx context.Context) (bool, error) {
		_, last = client.Get(ctx, "health", kubernetes.GetOptions{})
		return last == nil, nil
	})
	if err != nil {
		t.Fatal(last)
	}
}

func newPod() runtime.Object     { return &example.Pod{} }
func newPodList() runtime.Object { return &example.PodList{} }

func newCodec(t *testing.T) *failingCodec {
	t.Helper()
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, metav1.SchemeGroupVersion)
	for _, add := range []func(*runtime.Scheme) error{example.AddToScheme, examplev1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	return &failingCodec{Codec: apitesting.TestCodec(serializer.NewCodecFactory(scheme), examplev1.SchemeGroupVersion)}
}

var errWanted = errors.New("wanted by the test")

// failingCodec decodes nothing when told so.
type failingCodec struct {
	runtime.Codec
	fails atomic.Bool
}

func (c *failingCodec) Decode(data []byte, defaults *schema.GroupVersionKind, into runtime.Object) (runtime.Object, *schema.GroupVersionKind, error) {
	if c.fails.Load() {
		return nil, nil, errWanted
	}
	return c.Codec.Decode(data, defaults, into)
}

// swappedTransformer is what the store and its watcher share, so that a test may swap it.
type swappedTransformer struct {
	mu  sync.RWMutex
	now value.Transformer
}

func (s *swappedTransformer) swap(next value.Transformer) (restore func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.now
	s.now = next
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.now = before
	}
}

func (s *swappedTransformer) current() value.Transformer {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.now
}

func (s *swappedTransformer) TransformFromStorage(ctx context.Context, data []byte, dataCtx value.Context) ([]byte, bool, error) {
	return s.current().TransformFromStorage(ctx, data, dataCtx)
}

func (s *swappedTransformer) TransformToStorage(ctx context.Context, data []byte, dataCtx value.Context) ([]byte, error) {
	return s.current().TransformToStorage(ctx, data, dataCtx)
}

// unreadable transforms nothing while told so.
func (f *fixture) unreadable(fails bool) {
	if fails {
		f.transformer.swap(failingTransformer{f.prefix})
	} else {
		f.transformer.swap(f.prefix)
	}
}

type failingTransformer struct{ value.Transformer }

func (failingTransformer) TransformFromStorage(context.Context, []byte, value.Context) ([]byte, bool, error) {
	return nil, false, errWanted
}

// corrupt is the error of an object that cannot be read, as upstream makes it.
func corrupt() error {
	_, _, err := etcd3.WithCorruptObjErrorHandlingTransformer(failingTransformer{}).TransformFromStorage(context.Background(), nil, nil)
	return err
}

// withPrefix and withTransformer are the store for tests that swap its transformer.
type withPrefix struct {
	storage.Interface
	f *fixture
}

func (w withPrefix) UpdatePrefixTransformer(modify storagetesting.PrefixTransformerModifier) func() {
	changed := *w.f.prefix
	return w.f.transformer.swap(modify(&changed))
}

type withTransformer struct {
	storage.Interface
	f *fixture
}

func (w withTransformer) UpdateTransformer(modify storagetesting.TransformerModifier) func() {
	return w.f.transformer.swap(modify(w.f.transformer.current()))
}

// storedWithoutVersion checks that what is stored has no resourceVersion of its own.
func (f *fixture) storedWithoutVersion(ctx context.Context, t *testing.T, key string) {
	got, err := f.client.KV.Get(ctx, key)
	if err != nil || len(got.Kvs) != 1 {
		t.Fatalf("get %s: %v %v", key, got, err)
	}
	decoded, err := runtime.Decode(f.codec, got.Kvs[0].Value[len(valuePrefix):])
	if err != nil {
		t.Fatal(err)
	}
	if pod := decoded.(*example.Pod); pod.ResourceVersion != "" {
		t.Errorf("stored with resourceVersion %q", pod.ResourceVersion)
	}
}

func (f *fixture) increaseRevision(ctx context.Context, t *testing.T) int64 {
	put, err := f.client.KV.Put(ctx, "increaseRV", "ok")
	if err != nil {
		t.Fatal(err)
	}
	return put.Header.Revision
}

// compact compacts up to a resourceVersion, and waits until the store has heard of it.
func (f *fixture) compact(seen func() int64) storagetesting.Compaction {
	return func(ctx context.Context, t *testing.T, resourceVersion string) {
		revision, err := storage.APIObjectVersioner{}.ParseResourceVersion(resourceVersion)
		if err != nil {
			t.Fatal(err)
		}
		version, _, _, err := etcd3.Compact(ctx, f.client.Client, 0, int64(revision))
		if err != nil {
			// Somebody compacted before; now the version is known.
			_, _, _, err = etcd3.Compact(ctx, f.client.Client, version, int64(revision))
		}
		if err != nil {
			t.Fatal(err)
		}
		err = wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, limit, true, func(context.Context) (bool, error) {
			return seen() == int64(revision), nil
		})
		if err != nil {
			t.Fatalf("compacted up to %d, seen %d", revision, seen())
		}
	}
}

// cacheOptions are those in which tests of the watch cache differ.
type cacheOptions struct {
	clusterScoped bool
	indexed       bool
}

// cached puts a watch cache over the store, whose first list fails where the cache begins with a list.
func (f *fixture) cached(t *testing.T, o cacheOptions) *cacher.CacheDelegator {
	t.Helper()
	failing := &storagetesting.StorageInjectingListErrors{Interface: f.store}
	if !clientfeatures.FeatureGates().Enabled(clientfeatures.WatchListClient) {
		failing.Errors = 1
	}
	config := cacher.Config{
		Storage:             failing,
		Versioner:           storage.APIObjectVersioner{},
		GroupResource:       schema.GroupResource{Resource: "pods"},
		EventsHistoryWindow: cacher.DefaultEventFreshDuration,
		ResourcePrefix:      resourcePrefix,
		KeyFunc:             func(obj runtime.Object) (string, error) { return storage.NamespaceKeyFunc(resourcePrefix, obj) },
		GetAttrsFunc:        podAttributes,
		NewFunc:             newPod,
		NewListFunc:         newPodList,
		Indexers:            &cache.Indexers{},
		Codec:               f.codec,
		Clock:               clock.RealClock{},
	}
	if o.clusterScoped {
		config.KeyFunc = func(obj runtime.Object) (string, error) { return storage.NoNamespaceKeyFunc(resourcePrefix, obj) }
	}
	if o.indexed {
		config.IndexerFuncs = storage.IndexerFuncs{"spec.nodeName": func(obj runtime.Object) string { return obj.(*example.Pod).Spec.NodeName }}
		config.Indexers = &cache.Indexers{
			"f:spec.nodeName":      func(obj any) ([]string, error) { return []string{obj.(*example.Pod).Spec.NodeName}, nil },
			"f:metadata.namespace": func(obj any) ([]string, error) { return []string{obj.(*example.Pod).Namespace}, nil },
		}
	}
	watchCache, err := cacher.NewCacherFromConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	delegator := cacher.NewCacheDelegator(watchCache, failing)
	t.Cleanup(func() {
		delegator.Stop()
		watchCache.Stop()
	})
	err = wait.PollUntilContextTimeout(t.Context(), 10*time.Millisecond, limit, true, func(context.Context) (bool, error) {
		consumed, err := failing.ErrorsConsumed()
		return consumed && delegator.ReadinessCheck() == nil, err
	})
	if err != nil {
		t.Fatalf("the watch cache is not filled: %v", err)
	}
	return delegator
}

func podAttributes(obj runtime.Object) (labels.Set, fields.Set, error) {
	pod, ok := obj.(*example.Pod)
	if !ok {
		return nil, nil, fmt.Errorf("%T is no pod", obj)
	}
	return pod.Labels, fields.Set{
		"metadata.name":      pod.Name,
		"metadata.namespace": pod.Namespace,
		"spec.nodeName":      pod.Spec.NodeName,
		"spec.restartPolicy": string(pod.Spec.RestartPolicy),
		"status.phase":       string(pod.Status.Phase),
	}, nil
}

// seenByCache creates objects so that the watch cache has them.
type seenByCache struct{ storage.Interface }

func (s seenByCache) Create(ctx context.Context, key string, obj, out runtime.Object, ttl uint64) error {
	if err := s.Interface.Create(ctx, key, obj, out, ttl); err != nil {
		return err
	}
	return wait.PollUntilContextTimeout(ctx, 10*time.Millisecond, limit, true, func(ctx context.Context) (bool, error) {
		got := newPod()
		err := s.Get(ctx, key, storage.GetOptions{ResourceVersion: "0"}, got)
		if storage.IsNotFound(err) {
			return false, nil
		}
		return equality.Semantic.DeepEqual(got, out), err
	})
}
