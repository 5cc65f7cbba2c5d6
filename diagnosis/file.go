package diagnosis

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
)

// Manifest is what a file has of an APIService: what would be there once it is applied.
type Manifest struct {
	// APIService is the one to be checked.
	APIService *apiregistrationv1.APIService
	// Service is the one that it leads to; nil if the file does not have it.
	Service *corev1.Service
	// Namespace is the Service's; nil if the file does not have it.
	Namespace *corev1.Namespace
	// Workloads are those of the file whose Pods the Service selects.
	Workloads []Workload
	// Rights are those that the file's bindings give, whatever the cluster says.
	Rights []Right
}

// WithFile is facts with an APIService of a file in the place of that of the cluster, for checks
// before it is applied. What the file does not have is the cluster's.
func (f Facts) WithFile(m Manifest) *Facts {
	name := m.APIService.Name
	a := APIServiceFacts{}
	if there := f.APIServices[name]; there != nil {
		a = *there
	}
	a.File = true
	a.Object = Saw(m.APIService)
	if m.Service != nil {
		a.Service = Saw(m.Service)
	}
	if m.Namespace != nil {
		a.Namespace = Saw(m.Namespace)
	}
	if len(m.Workloads) > 0 {
		a.Workloads = Saw(m.Workloads)
		a.ServiceAccount = ""
	}
	a.Rights = maps.Clone(a.Rights)
	for _, r := range m.Rights {
		if a.Rights == nil {
			a.Rights = map[Right]Known[bool]{}
		}
		a.Rights[r] = Saw(true)
	}
	f.APIServices = maps.Clone(f.APIServices)
	if f.APIServices == nil {
		f.APIServices = map[string]*APIServiceFacts{}
	}
	f.APIServices[name] = &a
	return &f
}
