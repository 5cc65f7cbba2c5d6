package v1

import (
	"maps"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	builtin "k8s.io/kube-aggregator/pkg/generated/openapi"
	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// Every schema is published under this name, so that moving the Go package
// does not rename it for clients.
const modelPrefix = "dev.annex.demo.v1."

// OpenAPIModelName names the published schema.
func (Notice) OpenAPIModelName() string { return modelPrefix + "Notice" }

// OpenAPIModelName names the published schema.
func (NoticeSpec) OpenAPIModelName() string { return modelPrefix + "NoticeSpec" }

// OpenAPIModelName names the published schema.
func (NoticeStatus) OpenAPIModelName() string { return modelPrefix + "NoticeStatus" }

// OpenAPIModelName names the published schema.
func (NoticeList) OpenAPIModelName() string { return modelPrefix + "NoticeList" }

// GetOpenAPIDefinitions gives the schemas of this package's types and of the
// apimachinery types that they and the API's operations refer to. Server-side
// apply and `kubectl explain` work from them.
func GetOpenAPIDefinitions(ref common.ReferenceCallback) map[string]common.OpenAPIDefinition {
	defs := builtin.GetOpenAPIDefinitions(ref)
	maps.DeleteFunc(defs, func(name string, _ common.OpenAPIDefinition) bool {
		return !strings.HasPrefix(name, "io.k8s.apimachinery.")
	})
	meta, listMeta, time := metav1.ObjectMeta{}.OpenAPIModelName(), metav1.ListMeta{}.OpenAPIModelName(), metav1.Time{}.OpenAPIModelName()

	defs[Notice{}.OpenAPIModelName()] = object("Notice is a message pinned to a namespace's bulletin board.", properties{
		"apiVersion": text("APIVersion is the group and version of this object."),
		"kind":       text("Kind is the type of this object."),
		"metadata":   reference(ref, meta, "Standard object metadata."),
		"spec":       reference(ref, NoticeSpec{}.OpenAPIModelName(), "Spec is what its author wants to say."),
		"status":     reference(ref, NoticeStatus{}.OpenAPIModelName(), "Status is what was last recorded about the notice."),
	}, nil, meta, NoticeSpec{}.OpenAPIModelName(), NoticeStatus{}.OpenAPIModelName())

	message := text("Message is the text, at most 1024 bytes.")
	message.WithMinLength(1).WithMaxLength(MaxMessageBytes)
	severity := text("Severity says how much the notice matters.")
	severity.WithEnum(string(SeverityCritical), string(SeverityInfo), string(SeverityWarning)).WithDefault(string(SeverityInfo))
	defs[NoticeSpec{}.OpenAPIModelName()] = object("NoticeSpec is what the author of a notice wants to say.", properties{
		"message":  message,
		"severity": severity,
		"expires":  {SchemaProps: spec.SchemaProps{Description: "Expires is when the notice stops counting; never, if it is not set.", Ref: ref(time)}},
	}, []string{"message"}, time)

	phase := text("Phase says whether the notice still counted when it was last recorded.")
	phase.WithEnum(string(PhaseActive), string(PhaseExpired))
	defs[NoticeStatus{}.OpenAPIModelName()] = object("NoticeStatus is what was last recorded about a notice.", properties{"phase": phase}, nil)

	items := spec.ArrayProperty(&spec.Schema{SchemaProps: spec.SchemaProps{
		Default: map[string]any{}, Ref: ref(Notice{}.OpenAPIModelName()),
	}})
	items.Description = "Items are the notices."
	defs[NoticeList{}.OpenAPIModelName()] = object("NoticeList is a list of notices.", properties{
		"apiVersion": text("APIVersion is the group and version of this list."),
		"kind":       text("Kind is the type of this list."),
		"metadata":   reference(ref, listMeta, "Standard list metadata."),
		"items":      *items,
	}, []string{"items"}, listMeta, Notice{}.OpenAPIModelName())
	return defs
}

type properties map[string]spec.Schema

func object(description string, props properties, required []string, dependencies ...string) common.OpenAPIDefinition {
	return common.OpenAPIDefinition{
		Schema: spec.Schema{SchemaProps: spec.SchemaProps{
			Description: description,
			Type:        []string{"object"},
			Properties:  props,
			Required:    required,
		}},
		Dependencies: dependencies,
	}
}

func text(description string) spec.Schema {
	return spec.Schema{SchemaProps: spec.SchemaProps{Description: description, Type: []string{"string"}, Format: ""}}
}

// reference points at another schema; an absent value is the empty object.
func reference(ref common.ReferenceCallback, name, description string) spec.Schema {
	return spec.Schema{SchemaProps: spec.SchemaProps{Description: description, Default: map[string]any{}, Ref: ref(name)}}
}
