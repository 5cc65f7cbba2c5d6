package schema

import (
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/objectmeta"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
)

// Default sets in obj what is absent and has a default, as a custom resource gets it
// when it is decoded: null is absent, too, unless the schema allows it, and goes if it
// has no default.
func (v *Version) Default(obj map[string]any) {
	defaulting.PruneNonNullableNullsWithoutDefaults(obj, v.Schema)
	defaulting.Default(obj, v.Schema)
}

// Prune removes from obj what the schema does not know, and gives the paths of it in
// order. apiVersion, kind and metadata are left as they are, but in embedded objects
// metadata is held to the fields that it has in every object; an embedded object whose
// metadata cannot be read is left for Validate.
func (v *Version) Prune(obj map[string]any) (unknown []string) {
	unknown = pruning.PruneWithOptions(obj, v.Schema, true, structuralschema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})
	_, inMetadata := objectmeta.CoerceWithOptions(nil, obj, v.Schema, false, objectmeta.CoerceOptions{ReturnUnknownFieldPaths: true})
	return append(unknown, inMetadata...)
}
