package v1alpha1

import "embed"

// CRD is the schema of the types in the form that the SDK reads. It is for no API server to
// store: nothing keeps such objects.
//
//go:embed crd
var CRD embed.FS
