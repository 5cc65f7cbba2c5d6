// Package v1alpha1 has the types of aggregation.annex.dev/v1alpha1: how API servers see the
// extension servers behind APIServices. They are read-only, and computed anew all the time;
// nothing of them is stored.
//
// +kubebuilder:object:generate=true
// +groupName=aggregation.annex.dev
package v1alpha1

//go:generate go tool -modfile=../../../tools/go.mod controller-gen object paths=.
//go:generate go tool -modfile=../../../tools/go.mod controller-gen crd:maxDescLen=10000 paths=. output:crd:dir=crd

import "k8s.io/apimachinery/pkg/runtime/schema"

// GroupVersion is what the types of this package are served under.
var GroupVersion = schema.GroupVersion{Group: "aggregation.annex.dev", Version: "v1alpha1"}
