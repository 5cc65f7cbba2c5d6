// Package watchcache makes the watch caches of kube-apiserver rest while
// nothing happens: they wake together, and only where a watch may be due a
// bookmark, and a resource's keys are told again.
package watchcache

import (
	"reflect"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	apiruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/generic"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/cacher"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	"k8s.io/apiserver/pkg/storage/storagebackend/factory"
	"k8s.io/client-go/tools/cache"
)

// Align returns options whose watch caches wake together, when a bookmark may be
// due, and ask etcd for their keys only where something has happened. Storage that is not
// decorated with the caches of k8s.io/apiserver stays as it is.
func Align(options generic.RESTOptionsGetter) generic.RESTOptionsGetter {
	if _, done := options.(aligned); done || options == nil {
		return options
	}
	return aligned{options}
}

type aligned struct{ generic.RESTOptionsGetter }

// GetRESTOptions implements generic.RESTOptionsGetter.
func (a aligned) GetRESTOptions(resource schema.GroupResource, example apiruntime.Object) (generic.RESTOptions, error) {
	options, err := a.RESTOptionsGetter.GetRESTOptions(resource, example)
	if err == nil && isCached(options.Decorator) {
		options.Decorator = decorate
	}
	return options, err
}

// isCached says whether a decorator is the one of k8s.io/apiserver. It is a
// closure, of which the compiler makes a copy where it is inlined: only the
// end of its name is always the same.
func isCached(d generic.StorageDecorator) bool {
	if d == nil {
		return false
	}
	code := runtime.FuncForPC(reflect.ValueOf(d).Pointer())
	return code != nil && strings.HasPrefix(code.Name(), "k8s.io/apiserver/pkg/") && strings.HasSuffix(code.Name(), ".StorageWithCacher.func1")
}

// decorate is a generic.StorageDecorator that differs from
// genericregistry.StorageWithCacher in the clock and in what is remembered of
// keys only.
func decorate(
	config *storagebackend.ConfigForResource,
	prefix string,
	key func(apiruntime.Object) (string, error),
	newObject, newList func() apiruntime.Object,
	attributes storage.AttrFunc,
	indexerFuncs storage.IndexerFuncs,
	indexers *cache.Indexers,
) (storage.Interface, factory.DestroyFunc, error) {
	raw, destroyRaw, err := generic.NewRawStorage(config, newObject, newList, prefix)
	if err != nil {
		return raw, destroyRaw, err
	}
	return cached(raw, destroyRaw, progressAgeFor(config.CompactionInterval), cacher.Config{
		GroupResource:       config.GroupResource,
		EventsHistoryWindow: config.EventsHistoryWindow,
		ResourcePrefix:      prefix,
		KeyFunc:             key,
		NewFunc:             newObject,
		NewListFunc:         newList,
		GetAttrsFunc:        attributes,
		IndexerFuncs:        indexerFuncs,
		Indexers:            indexers,
		Codec:               config.Codec,
	})
}

// cached returns storage with a watch cache before it, and what ends both. An
// answer about the cache's progress gets that old.
func cached(raw storage.Interface, destroyRaw factory.DestroyFunc, age time.Duration, config cacher.Config) (storage.Interface, factory.DestroyFunc, error) {
	var happened atomic.Uint64
	config.Storage = rememberKeys{raw, &happened, age}
	config.KeyFunc = counting(config.KeyFunc, &happened)
	config.Versioner = storage.APIObjectVersioner{}
	bookmarks := newBookmarkClock()
	config.Clock = bookmarks
	watched, err := cacher.NewCacherFromConfig(config)
	if err != nil {
		destroyRaw()
		return nil, func() {}, err
	}
	delegator := cacher.NewCacheDelegator(watched, config.Storage)
	return expecting{delegator, bookmarks}, sync.OnceFunc(func() {
		delegator.Stop()
		watched.Stop()
		destroyRaw()
	}), nil
}
