package schema

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"

	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel/model"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/objectmeta"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/cel/common"
)

// Validates is false if the schema asks for nothing that JSON of the right types could
// lack: then an object of a Go type that fits is valid. Fit.Validates knows more, as
// it knows the type. An object without a Go type must always be validated.
func (v *Version) Validates() bool { return v.validates }

// Validate checks the values of an object, the embedded objects in it, lists that are
// sets or maps, the replicas of a scale subresource, and the rules in CEL, with the
// budget that they have in a custom resource. The object's own metadata is not
// checked. old is nil for a creation; in an update, what has not changed is not held
// against the object, and rules may compare. apiVersion and kind are added where
// they are missing; null counts as absent where the schema allows no null. Neither
// map is changed.
func (v *Version) Validate(ctx context.Context, obj, old map[string]any) field.ErrorList {
	obj = v.complete(obj)
	update := old != nil
	var valueOptions []validation.ValidationOption
	var ruleOptions []cel.Option
	var previous any
	if update {
		old = v.complete(old)
		previous = old
		correlated := common.NewCorrelatedObject(obj, old, &model.Structural{Structural: v.Schema})
		valueOptions = append(valueOptions, validation.WithRatcheting(correlated))
		ruleOptions = append(ruleOptions, cel.WithRatcheting(correlated))
	}

	var errs field.ErrorList
	if update {
		errs = validation.ValidateCustomResourceUpdate(nil, obj, old, v.values, valueOptions...)
	} else {
		errs = validation.ValidateCustomResource(nil, obj, v.values)
	}
	errs = append(errs, v.Scale.validate(obj)...)
	errs = append(errs, objectmeta.Validate(ctx, nil, obj, v.Schema, false)...)
	if lists := listtype.ValidateListSetsAndMaps(nil, v.Schema, obj); len(lists) > 0 &&
		(!update || len(listtype.ValidateListSetsAndMaps(nil, v.Schema, old)) == 0) {
		errs = append(errs, lists...)
	}
	if v.rules == nil {
		return errs
	}
	if slices.ContainsFunc(errs, blocksRules) {
		return append(errs, field.Invalid(nil, nil, "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation"))
	}
	broken, _ := v.rules.Validate(ctx, nil, v.Schema, obj, previous, celconfig.RuntimeCELCostBudget, ruleOptions...)
	return append(errs, broken...)
}

// blocksRules is true for errors after which a rule may meet a value that its types
// rule out, or cost more than was estimated.
func blocksRules(err *field.Error) bool {
	switch err.Type {
	case field.ErrorTypeNotSupported, field.ErrorTypeRequired, field.ErrorTypeTooLong, field.ErrorTypeTooMany, field.ErrorTypeTypeInvalid:
		return true
	}
	return false
}

// complete gives the object with its type, and without nulls that decoding a custom
// resource would have dropped; Go types write them for nil.
func (v *Version) complete(obj map[string]any) map[string]any {
	cleaned, copied := withoutNulls(obj, v.Schema)
	clean := cleaned.(map[string]any)
	if clean["apiVersion"] != nil && clean["kind"] != nil {
		return clean
	}
	if !copied {
		clean = maps.Clone(clean)
	}
	clean["apiVersion"], clean["kind"] = v.apiVersion, v.kind
	return clean
}

// withoutNulls gives x without fields that are null and may not be, and whether that
// is another value than x. It copies what it changes, and nothing else.
func withoutNulls(x any, s *structuralschema.Structural) (clean any, changed bool) {
	if s == nil {
		return x, false
	}
	switch x := x.(type) {
	case map[string]any:
		kept := x
		for name, value := range x {
			below := fieldSchema(s, name)
			if below == nil {
				continue
			}
			drop := value == nil && !below.Nullable
			inner, differs := withoutNulls(value, below)
			if !drop && !differs {
				continue
			}
			if !changed {
				kept, changed = maps.Clone(x), true
			}
			if drop {
				delete(kept, name)
			} else {
				kept[name] = inner
			}
		}
		return kept, changed
	case []any:
		kept := x
		for i, value := range x {
			inner, differs := withoutNulls(value, s.Items)
			if !differs {
				continue
			}
			if !changed {
				kept, changed = slices.Clone(x), true
			}
			kept[i] = inner
		}
		return kept, changed
	}
	return x, false
}

// fieldSchema is the schema of an object's field.
func fieldSchema(s *structuralschema.Structural, name string) *structuralschema.Structural {
	if prop, ok := s.Properties[name]; ok {
		return &prop
	}
	if s.AdditionalProperties != nil {
		return s.AdditionalProperties.Structural
	}
	return nil
}

// validate holds replicas to what autoscaling/v1 Scale can say.
func (s *Scale) validate(obj map[string]any) field.ErrorList {
	if s == nil {
		return nil
	}
	var errs field.ErrorList
	for _, path := range []string{s.SpecReplicas, s.StatusReplicas} {
		replicas, _, err := unstructured.NestedInt64(obj, steps(path)...)
		switch {
		case err != nil:
			errs = append(errs, field.Invalid(field.NewPath(path), replicas, err.Error()))
		case replicas < 0:
			errs = append(errs, field.Invalid(field.NewPath(path), replicas, "should be a non-negative integer"))
		case replicas > math.MaxInt32:
			errs = append(errs, field.Invalid(field.NewPath(path), replicas, fmt.Sprintf("should be less than or equal to %v", math.MaxInt32)))
		}
	}
	if s.Selector != "" {
		if selector, _, err := unstructured.NestedString(obj, steps(s.Selector)...); err != nil {
			errs = append(errs, field.Invalid(field.NewPath(s.Selector), selector, err.Error()))
		}
	}
	return errs
}
