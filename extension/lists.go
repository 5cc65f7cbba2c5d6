package extension

import (
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"

	"github.com/annex-api/annex/extension/internal/kind"
)

// listsOf finds the lists of a schema whose items are told apart; nil where there are
// none.
func listsOf(s *structuralschema.Structural) *kind.Lists {
	if s == nil {
		return nil
	}
	out := &kind.Lists{Keys: s.XListMapKeys, Set: s.XListType != nil && *s.XListType == "set", Items: listsOf(s.Items), Fields: map[string]*kind.Lists{}}
	if s.AdditionalProperties != nil {
		out.Values = listsOf(s.AdditionalProperties.Structural)
	}
	for name := range s.Properties {
		property := s.Properties[name]
		if below := listsOf(&property); below != nil {
			out.Fields[name] = below
		}
	}
	if len(out.Keys) == 0 && !out.Set && out.Items == nil && out.Values == nil && len(out.Fields) == 0 {
		return nil
	}
	return out
}
