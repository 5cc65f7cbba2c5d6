// Package install puts kinds on a generic API server: their routes, their discovery,
// their readiness.
//
// It does for a group what k8s.io/apiserver's InstallAPIGroups does, one level below: what
// makes, converts and describes objects are interfaces there, so that a kind needs no Go
// type.
package install

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/emicklei/go-restful/v3"
	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/endpoints"
	"k8s.io/apiserver/pkg/endpoints/discovery"
	"k8s.io/apiserver/pkg/registry/rest"
	genericapiserver "k8s.io/apiserver/pkg/server"
)

// Served is what is served of a kind: the same storage in each of its versions.
type Served struct {
	Group    string
	Versions []string
	// Storage has the resource and its subresources by path. Whoever made it destroys it.
	Storage map[string]rest.Storage
}

// Objects makes, converts and describes the objects of all kinds.
type Objects struct {
	Kinds interface {
		runtime.ObjectTyper
		runtime.ObjectCreater
		runtime.ObjectConvertor
		runtime.ObjectDefaulter
		endpoints.ConvertabilityChecker
	}
	Serializer runtime.NegotiatedSerializer
	// Lossless is what apply and patches convert with.
	Lossless runtime.ObjectConvertor
	// Types is by what apply merges objects.
	Types managedfields.TypeConverter
}

// Settings are those of the server that its kinds are served with.
type Settings struct {
	Admission           admission.Interface
	MinRequestTimeout   time.Duration
	MaxRequestBodyBytes int64
}

// Kinds installs kinds. It gives the services that it added to what there was.
func Kinds(s *genericapiserver.GenericAPIServer, o Objects, settings Settings, kinds []Served) ([]*restful.WebService, error) {
	before := s.Handler.GoRestfulContainer.RegisteredWebServices()
	groups := map[string]map[string]map[string]rest.Storage{} // by group, version, path
	for _, k := range kinds {
		if groups[k.Group] == nil {
			groups[k.Group] = map[string]map[string]rest.Storage{}
		}
		for _, v := range k.Versions {
			if groups[k.Group][v] == nil {
				groups[k.Group][v] = map[string]rest.Storage{}
			}
			maps.Copy(groups[k.Group][v], k.Storage)
		}
	}
	var errs []error
	for _, group := range slices.Sorted(maps.Keys(groups)) {
		if err := installGroup(s, o, settings, group, groups[group]); err != nil {
			errs = append(errs, fmt.Errorf("install the group %s: %w", group, err))
		}
	}
	added := slices.DeleteFunc(s.Handler.GoRestfulContainer.RegisteredWebServices(), func(w *restful.WebService) bool {
		return slices.Contains(before, w)
	})
	withoutStrategicPatch(added)
	return added, errors.Join(errs...)
}

func installGroup(s *genericapiserver.GenericAPIServer, o Objects, settings Settings, group string, versions map[string]map[string]rest.Storage) error {
	names := slices.SortedFunc(maps.Keys(versions), func(a, b string) int { return version.CompareKubeAwareVersionStrings(b, a) })
	served := map[string][]string{}
	for _, v := range names {
		for path := range versions[v] {
			served[path] = append(served[path], group+"/"+v)
		}
	}
	discovered := metav1.APIGroup{Name: group}
	for _, v := range names {
		gv := schema.GroupVersion{Group: group, Version: v}
		resources, _, err := groupVersion(s, o, settings, gv, versions[v], served).InstallREST(s.Handler.GoRestfulContainer)
		if err != nil {
			return err
		}
		s.AggregatedDiscoveryGroupManager.AddGroupVersion(group, apidiscoveryv2.APIVersionDiscovery{
			Freshness: apidiscoveryv2.DiscoveryFreshnessCurrent, Version: v, Resources: resources,
		})
		discovered.Versions = append(discovered.Versions, metav1.GroupVersionForDiscovery{GroupVersion: gv.String(), Version: v})
		for path, storage := range versions[v] {
			if checked, ok := storage.(rest.StorageWithReadiness); ok {
				s.StorageReadinessHook.RegisterStorage(metav1.GroupVersionResource{Group: group, Version: v, Resource: path}, checked)
			}
		}
	}
	discovered.PreferredVersion = discovered.Versions[0]
	s.DiscoveryGroupManager.AddGroup(discovered)
	s.Handler.GoRestfulContainer.Add(discovery.NewAPIGroupHandler(o.Serializer, discovered).WebService())
	return nil
}

func groupVersion(s *genericapiserver.GenericAPIServer, o Objects, settings Settings, gv schema.GroupVersion, storage map[string]rest.Storage, served map[string][]string) *endpoints.APIGroupVersion {
	return &endpoints.APIGroupVersion{
		Storage:                     storage,
		Root:                        genericapiserver.APIGroupPrefix,
		GroupVersion:                gv,
		AllServedVersionsByResource: served,
		OptionsExternalVersion:      &schema.GroupVersion{Version: "v1"},
		Serializer:                  o.Serializer,
		ParameterCodec:              metav1.ParameterCodec,
		Typer:                       o.Kinds,
		Creater:                     o.Kinds,
		Convertor:                   o.Kinds,
		ConvertabilityChecker:       o.Kinds,
		Defaulter:                   o.Kinds,
		Namer:                       runtime.Namer(meta.NewAccessor()),
		UnsafeConvertor:             o.Lossless,
		TypeConverter:               o.Types,
		EquivalentResourceRegistry:  s.EquivalentResourceRegistry,
		Authorizer:                  s.Authorizer,
		Admit:                       settings.Admission,
		MinRequestTimeout:           settings.MinRequestTimeout,
		MaxRequestBodyBytes:         settings.MaxRequestBodyBytes,
	}
}
