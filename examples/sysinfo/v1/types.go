// Package v1 has the kind CPU.
//
// +kubebuilder:object:generate=true
// +groupName=sysinfo.example.com
package v1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is sysinfo.example.com/v1.
var GroupVersion = schema.GroupVersion{Group: "sysinfo.example.com", Version: "v1"}

// CPU is a processor of the machine that the server runs on.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster
type CPU struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Status is what the processor has done since the machine was started.
	Status CPUStatus `json:"status,omitempty"`
}

// CPUStatus is for how long a processor has done what.
type CPUStatus struct {
	// BusySeconds is how long it has worked.
	BusySeconds int64 `json:"busySeconds"`
	// IdleSeconds is how long it had nothing to do.
	IdleSeconds int64 `json:"idleSeconds"`
}
