package registry

import (
	"reflect"
	"slices"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/annex-api/annex/extension/internal/kind"
	"github.com/annex-api/annex/extension/internal/path"
	"github.com/annex-api/annex/extension/internal/versions"
)

// The functions of this file keep server-side apply from owning what a write ignores.
// Managed fields are those of a version, and versions name fields in their own ways.

// GetResetFieldsFilter implements rest.ResetFieldsFilterStrategy.
func (s strategy) GetResetFieldsFilter() map[fieldpath.APIVersion]fieldpath.Filter {
	return inEveryVersion(s.kind, func(fieldsOfVersion) fieldpath.Filter {
		if s.kind.Status == nil || !s.parts.hasStatus() {
			return ignoring()
		}
		return ignoring("status")
	})
}

// GetResetFieldsFilter implements rest.ResetFieldsFilterStrategy.
func (s statusStrategy) GetResetFieldsFilter() map[fieldpath.APIVersion]fieldpath.Filter {
	return inEveryVersion(s.kind, func(f fieldsOfVersion) fieldpath.Filter {
		ignored := slices.Clone(f.names)
		return ignoring(slices.DeleteFunc(ignored, func(name string) bool { return name == "status" })...)
	})
}

// GetResetFieldsFilter implements rest.ResetFieldsFilterStrategy. In a version that names
// one of the fields otherwise, all of the spec can be owned.
func (s updateStrategy) GetResetFieldsFilter() map[fieldpath.APIVersion]fieldpath.Filter {
	return inEveryVersion(s.kind, func(f fieldsOfVersion) fieldpath.Filter {
		var taken []*fieldpath.SetMatcher
		for _, field := range s.update.Fields {
			if !f.has(field) {
				return ignoring(slices.DeleteFunc([]string{"metadata", "status"}, func(name string) bool {
					return slices.ContainsFunc(s.update.Fields, func(field string) bool { return splitPath(field)[0] == name })
				})...)
			}
			var parts []any
			for _, key := range splitPath(field) {
				parts = append(parts, key)
			}
			taken = append(taken, fieldpath.MakePrefixMatcherOrDie(parts...))
		}
		return fieldpath.NewIncludeMatcherFilter(taken...)
	})
}

// inEveryVersion makes filters of what can be owned. What carries the hub's fields through
// conversions is owned by nobody.
func inEveryVersion(k *kind.Kind, of func(fieldsOfVersion) fieldpath.Filter) map[fieldpath.APIVersion]fieldpath.Filter {
	out := map[fieldpath.APIVersion]fieldpath.Filter{}
	for _, v := range k.Served() {
		out[apiVersion(k, v)] = withoutStash{of(fieldsIn(k, v))}
	}
	return out
}

// fieldsOfVersion are what a version calls its fields: those of the root by their names,
// and any by its path.
type fieldsOfVersion struct {
	names []string
	has   func(path string) bool
}

func fieldsIn(k *kind.Kind, version string) fieldsOfVersion {
	if k.Untyped != nil {
		return fieldsOfVersion{
			names: append([]string{"apiVersion", "kind", "metadata"}, k.Untyped.Members[version]...),
			has:   func(path string) bool { return k.Untyped.Has(version, path) },
		}
	}
	object, _, _ := k.Version(version)
	t := reflect.TypeOf(object()).Elem()
	return fieldsOfVersion{names: path.Names(t), has: func(field string) bool { return path.TypeOf(t, field) != nil }}
}

// ignoring takes fields of the root out.
func ignoring(names ...string) fieldpath.Filter {
	ignored := fieldpath.NewSet()
	for _, name := range names {
		ignored.Insert(fieldpath.MakePathOrDie(name))
	}
	return fieldpath.NewExcludeSetFilter(ignored)
}

// withoutStash takes the annotations out that versions.IsStash knows.
type withoutStash struct{ then fieldpath.Filter }

// Filter implements fieldpath.Filter.
func (f withoutStash) Filter(set *fieldpath.Set) *fieldpath.Set {
	at := fieldpath.MakePathOrDie("metadata", "annotations")
	carries := fieldpath.NewSet()
	for name := range set.WithPrefix(at[0]).WithPrefix(at[1]).Members.All() {
		if name.FieldName != nil && versions.IsStash(*name.FieldName) {
			carries.Insert(append(slices.Clone(at), name))
		}
	}
	if !carries.Empty() {
		set = set.Difference(carries)
	}
	return f.then.Filter(set)
}

func apiVersion(k *kind.Kind, version string) fieldpath.APIVersion {
	return fieldpath.APIVersion(schema.GroupVersion{Group: k.Hub.Group, Version: version}.String())
}
