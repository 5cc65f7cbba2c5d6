package catalog

import (
	"bytes"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
)

// many are the facts of count APIServices, each with a Service and three
// endpoints of its own.
func many(count int) Facts {
	f := Facts{
		Registrations: map[string]Registration{}, Services: map[types.NamespacedName]ServiceFacts{},
		Verdicts: map[string]Verdict{}, Documents: map[string]Document{},
	}
	for i := range count {
		o := &apiregistrationv1.APIService{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("v1.g%d.example", i)}}
		o.Spec.Group, o.Spec.Version = fmt.Sprintf("g%d.example", i), "v1"
		o.Spec.GroupPriorityMinimum, o.Spec.VersionPriority = 1000, 15
		o.Spec.CABundle = bytes.Repeat([]byte("a"), 1200)
		service := fmt.Sprintf("s%d", i)
		o.Spec.Service = &apiregistrationv1.ServiceReference{Namespace: "ns", Name: service}
		f.Registrations[o.Name] = NewRegistration(o)
		slice := &discoveryv1.EndpointSlice{
			AddressType: discoveryv1.AddressTypeIPv4,
			Ports:       []discoveryv1.EndpointPort{{Name: new("https"), Port: new(int32(8443))}},
		}
		for e := range 3 {
			slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{fmt.Sprintf("10.%d.%d.%d", i/256, i%256, e+1)}})
		}
		f.Services[types.NamespacedName{Namespace: "ns", Name: service}] = ServiceFacts{
			Service: &corev1.Service{Spec: corev1.ServiceSpec{
				Type: corev1.ServiceTypeClusterIP, ClusterIP: "10.96.0.1",
				Ports: []corev1.ServicePort{{Name: "https", Port: DefaultPort}},
			}},
			Slices: []*discoveryv1.EndpointSlice{slice},
		}
	}
	return f
}

func BenchmarkBuild(b *testing.B) {
	for _, count := range []int{100, 1000} {
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			f := many(count)
			b.ReportAllocs()
			for b.Loop() {
				Build(f)
			}
		})
	}
}

// What a snapshot allocates grows no faster than the APIServices do.
func TestBuildGrowsLinearly(t *testing.T) {
	cost := func(count int) float64 {
		f := many(count)
		return testing.AllocsPerRun(3, func() { Build(f) })
	}
	few, more := cost(100), cost(1000)
	if more > 11*few || more > 1000*40 {
		t.Errorf("%.0f allocations for 100 APIServices, %.0f for 1,000", few, more)
	}
}
