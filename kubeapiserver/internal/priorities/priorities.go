// Package priorities has the order in which discovery lists built-in groups, of
// which kube-apiserver exports one half only.
package priorities

import (
	"maps"

	"k8s.io/apimachinery/pkg/runtime/schema"
	controlplane "k8s.io/kubernetes/pkg/controlplane/apiserver"
)

// kubeGroups are the groups of kube-apiserver beyond those of a generic control
// plane, with the priorities that discovery has always listed them by.
var kubeGroups = []struct {
	group    string
	priority int32
	versions map[string]int32
}{
	{"", 18000, map[string]int32{"v1": 1}},
	{"apps", 17800, map[string]int32{"v1": 15}},
	{"autoscaling", 17500, map[string]int32{"v2": 30, "v1": 15, "v2beta1": 9, "v2beta2": 1}},
	{"batch", 17400, map[string]int32{"v1": 15, "v1beta1": 9, "v2alpha1": 9}},
	{"networking.k8s.io", 17200, map[string]int32{"v1": 15, "v1beta1": 9}},
	{"policy", 17100, map[string]int32{"v1": 15, "v1beta1": 9}},
	{"storage.k8s.io", 16800, map[string]int32{"v1": 15, "v1beta1": 9, "v1alpha1": 1}},
	{"scheduling.k8s.io", 16600, map[string]int32{"v1": 15, "v1beta1": 9, "v1alpha3": 3}},
	{"node.k8s.io", 16300, map[string]int32{"v1": 15, "v1beta1": 9, "v1alpha1": 1}},
	{"resource.k8s.io", 16200, map[string]int32{"v1": 21, "v1beta2": 15, "v1beta1": 9, "v1alpha3": 1}},
	{"lifecycle.k8s.io", 15700, map[string]int32{"v1alpha1": 1}},
}

// All are those of every built-in group version that is registered.
func All() map[schema.GroupVersion]controlplane.APIServicePriority {
	all := maps.Clone(controlplane.DefaultGenericAPIServicePriorities())
	for _, g := range kubeGroups {
		for version, priority := range g.versions {
			all[schema.GroupVersion{Group: g.group, Version: version}] = controlplane.APIServicePriority{Group: g.priority, Version: priority}
		}
	}
	return all
}
