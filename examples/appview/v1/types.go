// Package v1 has the kind App.
//
// +kubebuilder:object:generate=true
// +groupName=apps.example.com
package v1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is apps.example.com/v1.
var GroupVersion = schema.GroupVersion{Group: "apps.example.com", Version: "v1"}

// TeamLabel names the team that an App belongs to.
const TeamLabel = "apps.example.com/team"

// App is a program that runs somewhere. It is kept in a ConfigMap.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:categories=all
// +kubebuilder:selectablefield:JSONPath=.spec.image
// +kubebuilder:printcolumn:name="Image",type=string,JSONPath=`.spec.image`
// +kubebuilder:printcolumn:name="Replicas",type=integer,JSONPath=`.spec.replicas`
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
type App struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   AppSpec   `json:"spec"`
	Status AppStatus `json:"status,omitempty"`
}

// AppSpec is what shall run.
type AppSpec struct {
	// Image is what is run.
	//
	// +kubebuilder:validation:MinLength=1
	Image string `json:"image"`
	// Replicas is how often it is run.
	//
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000
	// +kubebuilder:default=1
	Replicas *int32 `json:"replicas,omitempty"`
}

// AppStatus is what runs.
type AppStatus struct {
	// Phase is what whoever runs the App says of it in the ConfigMap.
	Phase string `json:"phase,omitempty"`
}
