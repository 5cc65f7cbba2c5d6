// Package watchcache makes the watch caches of kube-apiserver wake together. Each
// of them, some two hundred, has a timer of about a second that looks whether a
// watch is due a bookmark. An idle server that is woken two hundred times a second
// spends more on waking than on looking.
package watchcache

import (
	"reflect"
	"runtime"
	"strings"
	"sync"

	apiruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/generic"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/cacher"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	"k8s.io/apiserver/pkg/storage/storagebackend/factory"
	"k8s.io/client-go/tools/cache"
)

// Align returns options whose watch caches wake together. Storage that is not
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
// genericregistry.StorageWithCacher in the clock only.
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
	watched, err := cacher.NewCacherFromConfig(cacher.Config{
		Storage:             raw,
		Versioner:           storage.APIObjectVersioner{},
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
		Clock:               alignedClock{},
	})
	if err != nil {
		destroyRaw()
		return nil, func() {}, err
	}
	delegator := cacher.NewCacheDelegator(watched, raw)
	return delegator, sync.OnceFunc(func() {
		delegator.Stop()
		watched.Stop()
		destroyRaw()
	}), nil
}
