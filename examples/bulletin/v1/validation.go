package v1

import (
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Validate gives every fault of a new notice, each with its field's path.
func Validate(n *Notice) field.ErrorList {
	errs := validation.ValidateObjectMeta(&n.ObjectMeta, true, validation.NameIsDNSSubdomain, field.NewPath("metadata"))
	return append(errs, validateSpec(&n.Spec, field.NewPath("spec"))...)
}

// ValidateUpdate gives every fault of a notice that is to replace old.
func ValidateUpdate(n, old *Notice) field.ErrorList {
	errs := validation.ValidateObjectMetaUpdate(&n.ObjectMeta, &old.ObjectMeta, field.NewPath("metadata"))
	return append(errs, validateSpec(&n.Spec, field.NewPath("spec"))...)
}

// ValidateStatusUpdate gives every fault of a status that is to replace old's.
func ValidateStatusUpdate(n, old *Notice) field.ErrorList {
	errs := validation.ValidateObjectMetaUpdate(&n.ObjectMeta, &old.ObjectMeta, field.NewPath("metadata"))
	path := field.NewPath("status", "phase")
	switch n.Status.Phase {
	case PhaseActive, PhaseExpired:
	case "":
		errs = append(errs, field.Required(path, ""))
	default:
		errs = append(errs, field.NotSupported(path, n.Status.Phase, []Phase{PhaseActive, PhaseExpired}))
	}
	return errs
}

func validateSpec(s *NoticeSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if s.Message == "" {
		errs = append(errs, field.Required(path.Child("message"), "a notice must say something"))
	}
	if len(s.Message) > MaxMessageBytes {
		errs = append(errs, field.TooLong(path.Child("message"), "", MaxMessageBytes))
	}
	switch s.Severity {
	case SeverityInfo, SeverityWarning, SeverityCritical:
	default:
		errs = append(errs, field.NotSupported(path.Child("severity"), s.Severity,
			[]Severity{SeverityInfo, SeverityWarning, SeverityCritical}))
	}
	return errs
}
