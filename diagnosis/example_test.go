package diagnosis_test

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/annex-api/annex/diagnosis"
)

// An uninstall left an APIService behind. What else could be known of it was not asked.
func Example() {
	facts := &diagnosis.Facts{APIServices: map[string]*diagnosis.APIServiceFacts{
		"v1.example.com": {
			Object: diagnosis.Saw(&apiregistrationv1.APIService{
				ObjectMeta: metav1.ObjectMeta{Name: "v1.example.com"},
				Spec: apiregistrationv1.APIServiceSpec{
					Group: "example.com", Version: "v1",
					Service: &apiregistrationv1.ServiceReference{Namespace: "shop", Name: "widgets"},
				},
			}),
			Namespace: diagnosis.Saw[*corev1.Namespace](nil),
			Service:   diagnosis.Saw[*corev1.Service](nil),
		},
	}}
	first := diagnosis.Diagnose(facts, "v1.example.com").Findings[0]
	fmt.Println(first.Code, first.Name, first.Severity, first.Confidence)
	fmt.Println(first.Evidence)
	for _, line := range diagnosis.Script(first.Remedy) {
		fmt.Println(line)
	}
	// Output:
	// ANX102 ServiceNotFound error Certain
	// the APIService leads to Service shop/widgets, and there is not even namespace shop
	// # what Services there are
	// kubectl -n shop get services
	// # This takes away the API example.com/v1, for every client, until it is registered again. Do it only if no Service above is the extension server's, and it is gone for good.
	// # kubectl delete apiservice v1.example.com
}
