package v1

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// The group's name and its resource, as they stand in paths.
const (
	GroupName = "demo.annex.dev"
	Resource  = "notices"
	Singular  = "notice"
	Kind      = "Notice"
)

// SchemeGroupVersion is demo.annex.dev/v1.
var SchemeGroupVersion = schema.GroupVersion{Group: GroupName, Version: "v1"}

// SeverityField is the one field, beside metadata.name and metadata.namespace,
// that a field selector may name.
const SeverityField = "spec.severity"

// AddToScheme registers the types with their defaults and field selectors. It
// is all a client needs.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(SchemeGroupVersion, &Notice{}, &NoticeList{})
	metav1.AddToGroupVersion(s, SchemeGroupVersion)
	s.AddTypeDefaultingFunc(&Notice{}, func(obj any) { setDefaults(obj.(*Notice)) })
	s.AddTypeDefaultingFunc(&NoticeList{}, func(obj any) {
		list := obj.(*NoticeList)
		for i := range list.Items {
			setDefaults(&list.Items[i])
		}
	})
	return s.AddFieldLabelConversionFunc(SchemeGroupVersion.WithKind(Kind), func(label, value string) (string, string, error) {
		switch label {
		case "metadata.name", "metadata.namespace", SeverityField:
			return label, value, nil
		}
		return "", "", fmt.Errorf("%q is not a known field selector: only metadata.name, metadata.namespace, %s", label, SeverityField)
	})
}

// AddInternalToScheme registers the same Go types as the group's internal
// version, which the generic registry stores and converts through. With a
// single version there is nothing to convert, so the two are one.
func AddInternalToScheme(s *runtime.Scheme) {
	internal := schema.GroupVersion{Group: GroupName, Version: runtime.APIVersionInternal}
	s.AddKnownTypes(internal, &Notice{}, &NoticeList{})
}

func setDefaults(n *Notice) {
	if n.Spec.Severity == "" {
		n.Spec.Severity = SeverityInfo
	}
}
