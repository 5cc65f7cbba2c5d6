package registry

import (
	"reflect"
	"slices"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/annex-api/annex/extension/internal/kind"
	"github.com/annex-api/annex/extension/internal/path"
	"github.com/annex-api/annex/extension/internal/versions"
)

// The functions of this file keep server-side apply from owning what a write ignores.
// Managed fields are those of a version, and versions name fields in their own ways.

// GetResetFields implements rest.ResetFieldsStrategy.
func (s strategy) GetResetFields() map[fieldpath.APIVersion]*fieldpath.Set {
	return inEveryVersion(s.kind, func(runtime.Object) *fieldpath.Set {
		set := fieldpath.NewSet()
		if s.kind.Status != nil && s.parts.status != nil {
			set.Insert(fieldpath.MakePathOrDie("status"))
		}
		return set
	})
}

// GetResetFields implements rest.ResetFieldsStrategy.
func (s statusStrategy) GetResetFields() map[fieldpath.APIVersion]*fieldpath.Set {
	return inEveryVersion(s.kind, func(example runtime.Object) *fieldpath.Set {
		set := fieldpath.NewSet(
			fieldpath.MakePathOrDie("metadata", "labels"), fieldpath.MakePathOrDie("metadata", "annotations"),
			fieldpath.MakePathOrDie("metadata", "finalizers"), fieldpath.MakePathOrDie("metadata", "ownerReferences"),
			fieldpath.MakePathOrDie("metadata", "deletionTimestamp"), fieldpath.MakePathOrDie("metadata", "generation"),
		)
		for _, name := range path.Names(reflect.TypeOf(example).Elem()) {
			if !slices.Contains([]string{"apiVersion", "kind", "metadata", "status"}, name) {
				set.Insert(fieldpath.MakePathOrDie(name))
			}
		}
		return set
	})
}

// inEveryVersion has sets of fields, and what carries the hub's through conversions,
// owned by nobody.
func inEveryVersion(k *kind.Kind, of func(example runtime.Object) *fieldpath.Set) map[fieldpath.APIVersion]*fieldpath.Set {
	out := map[fieldpath.APIVersion]*fieldpath.Set{}
	for _, v := range k.Served() {
		object, _, _ := k.Version(v)
		set := of(object())
		set.Insert(fieldpath.MakePathOrDie("metadata", "annotations", versions.Stash))
		out[apiVersion(k, v)] = set
	}
	return out
}

// GetResetFieldsFilter implements rest.ResetFieldsFilterStrategy. In a version that names
// one of the fields otherwise, all of the spec can be owned.
func (s updateStrategy) GetResetFieldsFilter() map[fieldpath.APIVersion]fieldpath.Filter {
	out := map[fieldpath.APIVersion]fieldpath.Filter{}
	for _, v := range s.kind.Served() {
		object, _, _ := s.kind.Version(v)
		example := reflect.TypeOf(object()).Elem()
		var taken []*fieldpath.SetMatcher
		for _, field := range s.update.Fields {
			if path.TypeOf(example, field) == nil {
				taken = nil
				break
			}
			keys := splitPath(field)
			parts := make([]any, len(keys))
			for i, key := range keys {
				parts[i] = key
			}
			taken = append(taken, fieldpath.MakePrefixMatcherOrDie(parts...))
		}
		if taken == nil {
			ignored := fieldpath.NewSet()
			for _, name := range []string{"metadata", "status"} {
				if !slices.ContainsFunc(s.update.Fields, func(field string) bool { return splitPath(field)[0] == name }) {
					ignored.Insert(fieldpath.MakePathOrDie(name))
				}
			}
			out[apiVersion(s.kind, v)] = fieldpath.NewExcludeSetFilter(ignored)
			continue
		}
		out[apiVersion(s.kind, v)] = fieldpath.NewIncludeMatcherFilter(taken...)
	}
	return out
}

func apiVersion(k *kind.Kind, version string) fieldpath.APIVersion {
	return fieldpath.APIVersion(schema.GroupVersion{Group: k.Hub.Group, Version: version}.String())
}
