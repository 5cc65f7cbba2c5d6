package crd

import (
	"context"
	"errors"
	"fmt"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/install"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	"k8s.io/apimachinery/pkg/runtime"
)

// validate says what an API server says of a definition: the server that is made of it
// asks the same at its start.
func validate(file string, definition *apiextensionsv1.CustomResourceDefinition) error {
	scheme := runtime.NewScheme()
	install.Install(scheme)
	defaulted := definition.DeepCopy()
	scheme.Default(defaulted)
	// It is set by who stores it.
	for _, v := range defaulted.Spec.Versions {
		if v.Storage {
			defaulted.Status.StoredVersions = []string{v.Name}
		}
	}
	internal := &apiextensions.CustomResourceDefinition{}
	if err := scheme.Convert(defaulted, internal, nil); err != nil {
		return fmt.Errorf("%s: %s: %w", file, definition.Name, err)
	}
	var errs []error
	for _, e := range validation.ValidateCustomResourceDefinition(context.Background(), internal) {
		errs = append(errs, e)
	}
	return prefixed(file+": "+definition.Name+": ", errors.Join(errs...))
}
