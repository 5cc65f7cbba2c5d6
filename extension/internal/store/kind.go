package store

import (
	"sync"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/features"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/cacher"
	"k8s.io/apiserver/pkg/storage/etcd3"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	"k8s.io/apiserver/pkg/storage/storagebackend/factory"
	"k8s.io/apiserver/pkg/storage/value/encrypt/identity"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/client-go/tools/cache"
)

// kind is the storage of one kind in use.
type kind struct {
	resource string
	ready    func() error
	close    func()
}

// decorate is a generic.StorageDecorator. It does what upstream's factory and its decorator with
// caches do, over the one client.
func (o *Opened) decorate(
	config *storagebackend.ConfigForResource,
	resourcePrefix string,
	keyFunc func(obj runtime.Object) (string, error),
	newFunc func() runtime.Object,
	newListFunc func() runtime.Object,
	getAttrs storage.AttrFunc,
	trigger storage.IndexerFuncs,
	indexers *cache.Indexers,
) (storage.Interface, factory.DestroyFunc, error) {
	raw, closeRaw, err := o.raw(config, resourcePrefix, newFunc, newListFunc)
	if err != nil {
		return nil, nil, err
	}
	window := config.EventsHistoryWindow
	if window == 0 {
		window = storagebackend.DefaultEventsHistoryWindow
	}
	watchCache, err := cacher.NewCacherFromConfig(cacher.Config{
		Storage:             raw,
		Versioner:           storage.APIObjectVersioner{},
		GroupResource:       config.GroupResource,
		EventsHistoryWindow: window,
		ResourcePrefix:      resourcePrefix,
		KeyFunc:             keyFunc,
		NewFunc:             newFunc,
		NewListFunc:         newListFunc,
		GetAttrsFunc:        getAttrs,
		IndexerFuncs:        trigger,
		Indexers:            indexers,
		Codec:               config.Codec,
	})
	if err != nil {
		closeRaw()
		return nil, nil, err
	}
	delegator := cacher.NewCacheDelegator(watchCache, raw)
	k := &kind{resource: config.GroupResource.String(), ready: delegator.ReadinessCheck}
	k.close = sync.OnceFunc(func() {
		o.mu.Lock()
		delete(o.kinds, k)
		o.mu.Unlock()
		delegator.Stop()
		watchCache.Stop()
		closeRaw()
	})
	o.mu.Lock()
	o.kinds[k] = struct{}{}
	o.mu.Unlock()
	return &available{Interface: delegator, name: o.endpoint.Name, reach: o.reach}, k.close, nil
}

// raw is the etcd3 store of one kind.
func (o *Opened) raw(config *storagebackend.ConfigForResource, resourcePrefix string, newFunc, newListFunc func() runtime.Object) (storage.Interface, func(), error) {
	transformer := config.Transformer
	if transformer == nil {
		transformer = identity.NewEncryptCheckTransformer()
	}
	leases := config.LeaseManagerConfig
	if leases == (etcd3.LeaseManagerConfig{}) {
		leases = etcd3.NewDefaultLeaseManagerConfig()
	}
	versioner := storage.APIObjectVersioner{}
	decoder := etcd3.NewDefaultDecoder(config.Codec, versioner)
	// etcd3.New reads the same gate, and the two must agree.
	deleteMalformed := utilfeature.DefaultFeatureGate.Enabled(features.AllowUnsafeMalformedObjectDeletion)
	if deleteMalformed {
		transformer = etcd3.WithCorruptObjErrorHandlingTransformer(transformer)
		decoder = etcd3.WithCorruptObjErrorHandlingDecoder(decoder)
	}
	store, err := etcd3.New(o.client, o.compactor, config.Codec, newFunc, newListFunc, config.Prefix, resourcePrefix,
		config.GroupResource, transformer, leases, decoder, versioner)
	if err != nil {
		return nil, nil, err
	}
	if deleteMalformed {
		return etcd3.NewStoreWithUnsafeCorruptObjectDeletion(store, config.GroupResource), store.Close, nil
	}
	return store, store.Close, nil
}
