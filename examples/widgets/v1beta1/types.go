// Package v1beta1 has the kind Widget as it was at first.
//
// +kubebuilder:object:generate=true
// +groupName=widgets.example.com
package v1beta1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/annex-api/annex/examples/widgets/v1"
)

// Widget is something that is made in some number and colour.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:shortName=wd,categories=all
// +kubebuilder:subresource:status
// +kubebuilder:subresource:scale:specpath=.spec.size,statuspath=.status.replicas,selectorpath=.status.selector
// +kubebuilder:selectablefield:JSONPath=.spec.colour
type Widget struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   WidgetSpec      `json:"spec,omitempty"`
	Status v1.WidgetStatus `json:"status,omitempty"`
}

// WidgetSpec is what is wanted of a widget.
type WidgetSpec struct {
	// Colour is what the widget is painted in. It cannot be changed once the widget is made.
	//
	// +kubebuilder:validation:Enum=red;green;blue
	// +kubebuilder:default=red
	Colour v1.Colour `json:"colour,omitempty"`
	// Size is how many there shall be; v1 calls it replicas.
	//
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	// +kubebuilder:default=1
	Size *int32 `json:"size,omitempty"`
	// Parts are what the widget is made of.
	//
	// +listType=map
	// +listMapKey=name
	Parts []v1.Part `json:"parts,omitempty"`
}

// WidgetList is a list of widgets.
//
// +kubebuilder:object:root=true
type WidgetList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Widget `json:"items"`
}

// ToHub gives the hub's fields what this version says.
func ToHub(from *Widget, to *v1.Widget) error {
	to.Spec = v1.WidgetSpec{Colour: from.Spec.Colour, Replicas: from.Spec.Size, Parts: from.Spec.Parts}
	to.Status = from.Status
	return nil
}

// FromHub says what this version can of the hub.
func FromHub(from *v1.Widget, to *Widget) error {
	to.Spec = WidgetSpec{Colour: from.Spec.Colour, Size: from.Spec.Replicas, Parts: from.Spec.Parts}
	to.Status = from.Status
	return nil
}
