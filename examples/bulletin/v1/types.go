// Package v1 has the types of the API group demo.annex.dev/v1.
//
// +kubebuilder:object:generate=true
// +groupName=demo.annex.dev
package v1

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is demo.annex.dev/v1.
var GroupVersion = schema.GroupVersion{Group: "demo.annex.dev", Version: "v1"}

// Severity says how much a notice matters.
//
// +kubebuilder:validation:Enum=info;warning;critical
type Severity string

// The severities, in rising order.
const (
	SeverityInfo     Severity = "info"
	SeverityWarning  Severity = "warning"
	SeverityCritical Severity = "critical"
)

// Phase says whether a notice still counts.
//
// +kubebuilder:validation:Enum=Active;Expired
type Phase string

// The phases.
const (
	PhaseActive  Phase = "Active"
	PhaseExpired Phase = "Expired"
)

// Notice is a message pinned to a namespace's bulletin board.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:shortName=nt
// +kubebuilder:subresource:status
// +kubebuilder:selectablefield:JSONPath=.spec.severity
type Notice struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   NoticeSpec   `json:"spec,omitempty"`
	Status NoticeStatus `json:"status,omitempty"`
}

// NoticeSpec is what its author wants to say.
type NoticeSpec struct {
	// Message is the text.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message"`
	// Severity says how much the notice matters.
	//
	// +kubebuilder:default=info
	Severity Severity `json:"severity,omitempty"`
	// Expires is when the notice stops counting; nil means never.
	Expires *metav1.Time `json:"expires,omitempty"`
}

// NoticeStatus is what was last recorded about the notice.
type NoticeStatus struct {
	// Phase is computed when a notice is created and when spec.expires changes,
	// and may be set through the status subresource in between.
	Phase Phase `json:"phase,omitempty"`
}

// NoticeList is a list of notices.
//
// +kubebuilder:object:root=true
type NoticeList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []Notice `json:"items"`
}

// PhaseAt gives the phase that spec.expires implies at the time now.
func (s *NoticeSpec) PhaseAt(now time.Time) Phase {
	if s.Expires != nil && !now.Before(s.Expires.Time) {
		return PhaseExpired
	}
	return PhaseActive
}

// PhaseAt gives the phase at the time now: Expired if it was recorded so, or if
// spec.expires has passed since.
func (n *Notice) PhaseAt(now time.Time) Phase {
	if n.Status.Phase == PhaseExpired {
		return PhaseExpired
	}
	return n.Spec.PhaseAt(now)
}
