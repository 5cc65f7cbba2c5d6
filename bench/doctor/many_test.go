package doctor

import (
	"context"
	"flag"
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/annex-api/annex/diagnosis"
)

// many is how many APIServices are looked at together. With 2000 and -v it is a measurement.
var many = flag.Int("many", 200, "how many APIServices TestMany looks at")

// TestMany has doctor look at many APIServices that are well: all of them, and no fault is named.
func TestMany(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes half a minute to have so many judged")
	}
	for name, c := range running(t) {
		t.Run(name, func(t *testing.T) {
			s := c.build(t, "many", func(s *site) {
				for i := range *many {
					s.manner.serves = append(s.manner.serves, fmt.Sprintf("m%d.example.com/v1", i))
				}
			})
			if err := s.register(t.Context()); err != nil {
				t.Fatal(err)
			}
			services := s.aggregator.ApiregistrationV1().APIServices()
			own := metav1.ListOptions{LabelSelector: "many=" + s.namespace}
			t.Cleanup(func() {
				if err := services.DeleteCollection(context.Background(), metav1.DeleteOptions{}, own); err != nil {
					t.Error(err)
				}
			})
			for i := range *many {
				a := s.apiService.DeepCopy()
				a.ObjectMeta = metav1.ObjectMeta{Name: fmt.Sprintf("v1.m%d.example.com", i), Labels: map[string]string{"many": s.namespace}}
				a.Spec.Group = fmt.Sprintf("m%d.example.com", i)
				if _, err := services.Create(t.Context(), a, metav1.CreateOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			err := until(t.Context(), "not all are available", func() error {
				all, err := services.List(t.Context(), own)
				if err != nil {
					return err
				}
				available := 0
				for _, a := range all.Items {
					for _, condition := range a.Status.Conditions {
						if condition.Type == apiregistrationv1.Available && condition.Status == apiregistrationv1.ConditionTrue {
							available++
						}
					}
				}
				if available < *many {
					return fmt.Errorf("%d of %d are", available, *many)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d APIServices are available", *many)
			// Documents come a moment after that, and the server is busy with so many.
			err = until(t.Context(), "a fault is named", func() error {
				begin := time.Now()
				reports, err := doctor(t.Context(), c.kubeconfig, "--all")
				t.Logf("%d APIServices in %v: %v", len(reports), time.Since(begin).Round(time.Millisecond), err)
				if err != nil {
					return err
				}
				if len(reports) <= *many {
					return fmt.Errorf("%d are looked at", len(reports))
				}
				for i := range *many {
					r := reports[fmt.Sprintf("v1.m%d.example.com", i)]
					if r.AtFault() || len(r.Steps) == 0 || r.Has(diagnosis.FailedDiscoveryCheck) {
						return fmt.Errorf("%s: %s", r.APIService, summary(r))
					}
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}
