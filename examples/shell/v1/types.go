// Package v1 has the kind Shell.
//
// +kubebuilder:object:generate=true
// +groupName=shell.example.com
package v1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is shell.example.com/v1.
var GroupVersion = schema.GroupVersion{Group: "shell.example.com", Version: "v1"}

// Shell is a place to which sessions can be opened, by its subresource attach.
//
// +kubebuilder:object:root=true
// +kubebuilder:printcolumn:name="Prompt",type=string,JSONPath=`.spec.prompt`
type Shell struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec ShellSpec `json:"spec,omitempty"`
}

// ShellSpec is what sessions are like.
type ShellSpec struct {
	// Prompt is what a terminal shows when the shell waits for a line.
	//
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:default="> "
	Prompt *string `json:"prompt,omitempty"`
}

// ShellList is a list of shells.
//
// +kubebuilder:object:root=true
type ShellList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []Shell `json:"items"`
}
