package openapi

import (
	"maps"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// Join adds the kinds to the settings of a server that has others, which are changed. Either
// may be nil. The server has the definitions of metadata already.
func (d *Definitions) Join(v2 *common.Config, v3 *common.OpenAPIV3Config) {
	if v2 != nil {
		v2.GetDefinitionName = d.nameBeside(v2.GetDefinitionName)
		v2.GetDefinitions = d.definitionsBeside(forV2, v2.GetDefinitions)
	}
	if v3 == nil {
		return
	}
	v3.GetDefinitionName = d.nameBeside(v3.GetDefinitionName)
	v3.GetDefinitions = d.definitionsBeside(forV3, v3.GetDefinitions)
	if v3.Definitions != nil { // made already, of what GetDefinitions was
		all := maps.Clone(v3.Definitions)
		d.addTo(all, forV3, func(found string) spec.Ref {
			name, _ := v3.GetDefinitionName(found)
			return spec.MustCreateRef("#/components/schemas/" + common.EscapeJsonPointer(name))
		})
		v3.Definitions = all
	}
}

type namer = func(found string) (string, spec.Extensions)

// nameBeside asks another namer for what is none of the kinds. To what every group version has
// it adds those of the kinds.
func (d *Definitions) nameBeside(others namer) namer {
	everywhere := []string{metav1.DeleteOptions{}.OpenAPIModelName(), metav1.WatchEvent{}.OpenAPIModelName()}
	own := map[string]bool{}
	for i := range d.kinds {
		k := &d.kinds[i]
		own[nameOf(k.GroupVersion.WithKind(k.Kind))] = true
		if k.ListKind != "" {
			own[nameOf(k.GroupVersion.WithKind(k.ListKind))] = true
		}
	}
	return func(found string) (string, spec.Extensions) {
		name, extensions := d.Name(found)
		if own[name] {
			return name, extensions
		}
		theirs, shown := others(found)
		if !slices.Contains(everywhere, found) {
			return theirs, shown
		}
		kinds := slices.Clone(kindsOf(shown))
		for _, one := range kindsOf(extensions) {
			if one.(map[string]any)["group"] != "" { // v1 is theirs
				kinds = append(kinds, one)
			}
		}
		joined := spec.Extensions{}
		maps.Copy(joined, shown)
		joined[extensionKinds] = kinds
		return theirs, joined
	}
}

func kindsOf(e spec.Extensions) []any {
	kinds, _ := e[extensionKinds].([]any)
	return kinds
}

func (d *Definitions) definitionsBeside(f form, others common.GetOpenAPIDefinitions) common.GetOpenAPIDefinitions {
	return func(ref common.ReferenceCallback) map[string]common.OpenAPIDefinition {
		all := others(ref)
		d.addTo(all, f, ref)
		return all
	}
}
