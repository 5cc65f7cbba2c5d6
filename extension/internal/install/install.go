// Package install puts kinds on a generic API server: their routes, their discovery,
// their readiness.
package install

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apiserver/pkg/registry/rest"
	genericapiserver "k8s.io/apiserver/pkg/server"
)

// Served is what is served of a kind: the same storage in each of its versions.
type Served struct {
	Group    string
	Versions []string
	// Storage has the resource and its subresources by path.
	Storage map[string]rest.Storage
}

// Kinds installs kinds whose types the scheme has.
func Kinds(s *genericapiserver.GenericAPIServer, scheme *runtime.Scheme, codecs serializer.CodecFactory, kinds []Served) error {
	groups := map[string]*genericapiserver.APIGroupInfo{}
	for _, k := range kinds {
		group := groups[k.Group]
		if group == nil {
			info := genericapiserver.NewDefaultAPIGroupInfo(k.Group, scheme, metav1.ParameterCodec, codecs)
			group = &info
			groups[k.Group] = group
		}
		for _, v := range k.Versions {
			if group.VersionedResourcesStorageMap[v] == nil {
				group.VersionedResourcesStorageMap[v] = map[string]rest.Storage{}
			}
			maps.Copy(group.VersionedResourcesStorageMap[v], k.Storage)
		}
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		if err := s.InstallAPIGroup(groups[name]); err != nil {
			errs = append(errs, fmt.Errorf("install the group %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}
