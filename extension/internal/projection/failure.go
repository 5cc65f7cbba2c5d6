package projection

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
)

// failure makes of an error of the source's API server one about what is shown: it keeps
// its reason, its code and its causes, and names the kind that the client knows.
func (s *Source) failure(name string, err error) error {
	var status apierrors.APIStatus
	switch {
	case errors.As(err, &status):
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return apierrors.NewTimeoutError(fmt.Sprintf("%s %q: the API server of its source has not answered", s.Kind.Resource(), name), retryAfter)
	default:
		return apierrors.NewServiceUnavailable(fmt.Sprintf("%s %q: the API server of its source cannot be reached: %v", s.Kind.Resource(), name, err))
	}
	told := status.Status()
	if told.Code == http.StatusUnauthorized { // it is this server whose credentials were refused
		return apierrors.NewInternalError(fmt.Errorf("the API server of the source of %s does not know this server: %w", s.Kind.Resource(), err))
	}
	told.Message = fmt.Sprintf("%s %q: %s", s.Kind.Resource(), name, told.Message)
	if told.Details == nil {
		told.Details = &metav1.StatusDetails{}
	} else {
		told.Details = told.Details.DeepCopy()
	}
	switch d := told.Details; {
	case d.Kind != "" && d.Kind != s.Resource.Resource && d.Kind != s.SourceKind: // it is about another object, such as its namespace
	case told.Reason == metav1.StatusReasonInvalid:
		d.Group, d.Kind, d.Name, d.UID = s.Kind.Hub.Group, s.Kind.Names.Kind, name, ""
	default:
		d.Group, d.Kind, d.Name, d.UID = s.Kind.Hub.Group, s.Kind.Names.Plural, name, ""
	}
	return &apierrors.StatusError{ErrStatus: told}
}

// refusal is what From has to say: an error of apimachinery's is sent as it is, any other
// as 422.
func (s *Source) refusal(object runtime.Object, err error) error {
	if status := apierrors.APIStatus(nil); errors.As(err, &status) {
		told := status.Status()
		return &apierrors.StatusError{ErrStatus: told}
	}
	name := ""
	if m, metaErr := meta.Accessor(object); metaErr == nil {
		name = m.GetName()
	}
	refused := apierrors.NewInvalid(s.Kind.Hub.WithKind(s.Kind.Names.Kind).GroupKind(), name, nil)
	refused.ErrStatus.Message += ": " + err.Error()
	return refused
}

// outdatedError is the conflict of a write whose source has changed since it was read.
type outdatedError struct{ *apierrors.StatusError }

func outdated(err error) error {
	var status *apierrors.StatusError
	if !errors.As(err, &status) {
		return err
	}
	return outdatedError{status}
}

// IsOutdated says whether a write failed because the source has changed since it was read,
// so that it may be planned again.
func IsOutdated(err error) bool { return errors.As(err, new(outdatedError)) }

func uidOf(stored *Stored) types.UID { return stored.source.GetUID() }

// copyVersion gives an object the resourceVersion of another.
func copyVersion(to, from runtime.Object) {
	if m, err := meta.Accessor(to); err == nil {
		m.SetResourceVersion(versionOf(from))
	}
}
