// Package v1 has the kind Widget in its hub version.
//
// +kubebuilder:object:generate=true
// +groupName=widgets.example.com
package v1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is widgets.example.com/v1.
var GroupVersion = schema.GroupVersion{Group: "widgets.example.com", Version: "v1"}

// Widget is something that is made in some number and colour.
//
// +kubebuilder:object:root=true
// +kubebuilder:storageversion
// +kubebuilder:resource:shortName=wd,categories=all
// +kubebuilder:subresource:status
// +kubebuilder:subresource:scale:specpath=.spec.replicas,statuspath=.status.replicas,selectorpath=.status.selector
// +kubebuilder:selectablefield:JSONPath=.spec.colour
// +kubebuilder:printcolumn:name="Colour",type=string,JSONPath=`.spec.colour`
// +kubebuilder:printcolumn:name="Replicas",type=integer,JSONPath=`.status.replicas`
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
type Widget struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   WidgetSpec   `json:"spec,omitempty"`
	Status WidgetStatus `json:"status,omitempty"`
}

// WidgetSpec is what is wanted of a widget.
type WidgetSpec struct {
	// Colour is what the widget is painted in. It cannot be changed once the widget is made.
	//
	// +kubebuilder:validation:Enum=red;green;blue
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="a widget is painted once"
	// +kubebuilder:default=red
	Colour Colour `json:"colour,omitempty"`
	// Replicas is how many there shall be.
	//
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	// +kubebuilder:default=1
	Replicas *int32 `json:"replicas,omitempty"`
	// Parts are what the widget is made of.
	//
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=32
	Parts []Part `json:"parts,omitempty"`
	// Owner is who is asked about the widget; only this version has it.
	//
	// +kubebuilder:validation:MaxLength=64
	Owner string `json:"owner,omitempty"`
}

// Colour is a colour that there is paint of.
type Colour string

// The colours.
const (
	Red   Colour = "red"
	Green Colour = "green"
	Blue  Colour = "blue"
)

// Part is a piece of a widget.
type Part struct {
	// Name is unique in the widget.
	//
	// +kubebuilder:validation:MinLength=1
	Name string `json:"name"`
	// Weight is in grams.
	//
	// +kubebuilder:validation:Minimum=1
	Weight int64 `json:"weight,omitempty"`
}

// WidgetStatus is what there is of a widget.
type WidgetStatus struct {
	// Replicas is how many there are.
	Replicas int32 `json:"replicas,omitempty"`
	// Selector finds what belongs to the widget.
	Selector string `json:"selector,omitempty"`
	// Phase is Pending, Ready or Restarting.
	//
	// +kubebuilder:validation:Enum=Pending;Ready;Restarting
	Phase string `json:"phase,omitempty"`
	// Restarts counts how often the widget was restarted.
	Restarts int32 `json:"restarts,omitempty"`
}

// WidgetList is a list of widgets.
//
// +kubebuilder:object:root=true
type WidgetList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Widget `json:"items"`
}
