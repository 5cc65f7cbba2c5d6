// Package v1alpha1 has the kinds of sample-apiserver, in the version that it stores, as one writes
// them for the SDK.
//
// +kubebuilder:object:generate=true
// +groupName=wardle.example.com
package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is wardle.example.com/v1alpha1.
var GroupVersion = schema.GroupVersion{Group: "wardle.example.com", Version: "v1alpha1"}

// ReferenceType says what is referred to.
//
// +kubebuilder:validation:Enum=Flunder;Fischer
type ReferenceType string

// The types.
const (
	FlunderReference ReferenceType = "Flunder"
	FischerReference ReferenceType = "Fischer"
)

// Flunder refers to another flunder, or to a fischer.
//
// +kubebuilder:object:root=true
// +kubebuilder:storageversion
type Flunder struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   FlunderSpec   `json:"spec,omitempty"`
	Status FlunderStatus `json:"status,omitempty"`
}

// FlunderSpec is what a flunder refers to.
type FlunderSpec struct {
	// Reference is the name of another flunder or of a fischer.
	Reference string `json:"reference,omitempty"`
	// ReferenceType is Flunder where there is a reference and nothing else is said.
	ReferenceType *ReferenceType `json:"referenceType,omitempty"`
}

// FlunderStatus says nothing yet.
type FlunderStatus struct{}

// FlunderList is a list of flunders.
//
// +kubebuilder:object:root=true
type FlunderList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Flunder `json:"items"`
}

// Fischer disallows flunders.
//
// +kubebuilder:object:root=true
// +kubebuilder:storageversion
// +kubebuilder:resource:scope=Cluster
type Fischer struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// DisallowedFlunders are the names of those.
	//
	// +listType=atomic
	DisallowedFlunders []string `json:"disallowedFlunders,omitempty"`
}

// FischerList is a list of fischers.
//
// +kubebuilder:object:root=true
type FischerList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Fischer `json:"items"`
}
