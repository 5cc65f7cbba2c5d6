// Package v1beta1 has the other version of flunders.
//
// +kubebuilder:object:generate=true
// +groupName=wardle.example.com
package v1beta1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/annex-api/annex/bench/sdk/wardle/v1alpha1"
)

// Flunder refers to another flunder, or to a fischer.
//
// +kubebuilder:object:root=true
type Flunder struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   FlunderSpec            `json:"spec,omitempty"`
	Status v1alpha1.FlunderStatus `json:"status,omitempty"`
}

// FlunderSpec is what a flunder refers to.
type FlunderSpec struct {
	// FlunderReference is the name of another flunder.
	FlunderReference string `json:"flunderReference,omitempty"`
	// FischerReference is the name of a fischer.
	FischerReference string `json:"fischerReference,omitempty"`
	// ReferenceType says which of them is meant.
	ReferenceType v1alpha1.ReferenceType `json:"referenceType,omitempty"`
}

// FlunderList is a list of flunders.
//
// +kubebuilder:object:root=true
type FlunderList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Flunder `json:"items"`
}

// ToHub gives the hub's fields what this version says.
func ToHub(from *Flunder, to *v1alpha1.Flunder) error {
	if from.Spec.ReferenceType == "" {
		return nil
	}
	to.Spec.ReferenceType = &from.Spec.ReferenceType
	to.Spec.Reference = from.Spec.FlunderReference
	if from.Spec.ReferenceType == v1alpha1.FischerReference {
		to.Spec.Reference = from.Spec.FischerReference
	}
	return nil
}

// FromHub says what the hub says.
func FromHub(from *v1alpha1.Flunder, to *Flunder) error {
	if from.Spec.ReferenceType == nil {
		return nil
	}
	to.Spec.ReferenceType = *from.Spec.ReferenceType
	if to.Spec.ReferenceType == v1alpha1.FischerReference {
		to.Spec.FischerReference = from.Spec.Reference
	} else {
		to.Spec.FlunderReference = from.Spec.Reference
	}
	return nil
}
