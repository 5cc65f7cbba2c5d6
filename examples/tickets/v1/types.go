// Package v1 has the kind Ticket.
//
// +kubebuilder:object:generate=true
// +groupName=tickets.example.com
package v1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is tickets.example.com/v1.
var GroupVersion = schema.GroupVersion{Group: "tickets.example.com", Version: "v1"}

// TeamLabel names the team that a ticket is for.
const TeamLabel = "tickets.example.com/team"

// Ticket is something that somebody shall look after.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:shortName=tk
// +kubebuilder:subresource:status
// +kubebuilder:selectablefield:JSONPath=.spec.priority
// +kubebuilder:selectablefield:JSONPath=.spec.assignee
// +kubebuilder:printcolumn:name="Priority",type=string,JSONPath=`.spec.priority`
// +kubebuilder:printcolumn:name="Assignee",type=string,JSONPath=`.spec.assignee`
// +kubebuilder:printcolumn:name="Title",type=string,JSONPath=`.spec.title`
// +kubebuilder:printcolumn:name="Resolution",type=string,priority=1,JSONPath=`.status.resolution`
type Ticket struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   TicketSpec   `json:"spec"`
	Status TicketStatus `json:"status,omitempty"`
}

// TicketSpec is what shall be done, and by whom.
type TicketSpec struct {
	// Title says in a line what it is about.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=200
	Title string `json:"title"`
	// Priority says what comes first.
	//
	// +kubebuilder:default=normal
	Priority Priority `json:"priority,omitempty"`
	// Assignee is who looks after it; nobody yet if it is empty.
	//
	// +kubebuilder:validation:MaxLength=64
	Assignee string `json:"assignee,omitempty"`
}

// Priority says how soon a ticket is looked after.
//
// +kubebuilder:validation:Enum=low;normal;high
type Priority string

// The priorities, in rising order.
const (
	Low    Priority = "low"
	Normal Priority = "normal"
	High   Priority = "high"
)

// TicketStatus is what has become of a ticket.
type TicketStatus struct {
	// Resolution says what was done; it is empty as long as the ticket is open.
	//
	// +kubebuilder:validation:MaxLength=1024
	Resolution string `json:"resolution,omitempty"`
}

// TicketList is a list of tickets.
//
// +kubebuilder:object:root=true
type TicketList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []Ticket `json:"items"`
}
