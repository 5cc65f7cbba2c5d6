// Package v1 holds the types of the API group demo.annex.dev/v1, with
// everything an API server must know of them: scheme, defaults, validation and
// OpenAPI schema.
package v1

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// MaxMessageBytes bounds the length of a notice's message.
const MaxMessageBytes = 1024

// Severity says how much a notice matters.
type Severity string

// The severities, in rising order.
const (
	SeverityInfo     Severity = "info"
	SeverityWarning  Severity = "warning"
	SeverityCritical Severity = "critical"
)

// Phase says whether a notice still counts.
type Phase string

// The phases.
const (
	PhaseActive  Phase = "Active"
	PhaseExpired Phase = "Expired"
)

// Notice is a message pinned to a namespace's bulletin board.
type Notice struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   NoticeSpec   `json:"spec,omitempty"`
	Status NoticeStatus `json:"status,omitempty"`
}

// NoticeSpec is what its author wants to say.
type NoticeSpec struct {
	// Message is the text, 1 to MaxMessageBytes bytes.
	Message string `json:"message"`
	// Severity is info unless set.
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
