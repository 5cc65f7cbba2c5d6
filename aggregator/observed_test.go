package aggregator

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-base/metrics"

	"github.com/annex-api/annex/apis/aggregation/v1alpha1"
)

// fixedObserved collects what is always the same.
type fixedObserved struct {
	observed
	objects []v1alpha1.RemoteAPIService
}

func (f *fixedObserved) CollectWithStability(ch chan<- metrics.Metric) {
	collectObserved(f.objects, func(d *metrics.Desc, value float64, labels ...string) {
		ch <- metrics.NewLazyConstMetric(d, metrics.GaugeValue, value, labels...)
	})
}

func TestMetricsOfWhatIsObserved(t *testing.T) {
	at := func(unix int64) metav1.Time { return metav1.Unix(unix, 0) }
	objects := []v1alpha1.RemoteAPIService{
		{ObjectMeta: metav1.ObjectMeta{Name: "v1.unknown"}, Status: v1alpha1.RemoteAPIServiceStatus{State: v1alpha1.Unknown}},
		{ObjectMeta: metav1.ObjectMeta{Name: "v1.a"}, Status: v1alpha1.RemoteAPIServiceStatus{
			State: v1alpha1.Degraded,
			Faults: []v1alpha1.Fault{
				{Reason: "EndpointEjected", Message: "10.0.0.1", Code: "ANX205"},
				{Reason: "EndpointEjected", Message: "10.0.0.2"}, // the same
				{Reason: "Endpoint\x1b[31m"},                     // no words
				{Reason: "as the server says", Code: "ANX601"},
				{Reason: "FailedDiscoveryCheck", Code: "ANX601\n"},
				{},
			},
			Discovery: v1alpha1.Discovery{Document: v1alpha1.Document{Fetched: at(100), Bytes: 4000}},
			OpenAPIV3: v1alpha1.Document{Fetched: at(200), Bytes: 5000},
			Certificates: v1alpha1.Certificates{
				Serving:    &v1alpha1.Certificate{NotAfter: at(300)},
				CABundle:   []v1alpha1.Certificate{{NotAfter: at(1)}, {NotAfter: at(400)}, {NotAfter: at(2)}},
				FrontProxy: &v1alpha1.Certificate{NotAfter: at(500)},
			},
		}},
	}
	registry := metrics.NewKubeRegistry()
	registry.CustomMustRegister(&fixedObserved{objects: objects})
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetValue())
			}
			got = append(got, fmt.Sprintf("%s %v %v", f.GetName(), labels, m.GetGauge().GetValue()))
		}
	}
	slices.Sort(got)
	want := []string{
		"annex_aggregation_apiservice_state [v1.a Degraded] 1",
		"annex_aggregation_apiservice_state [v1.unknown Unknown] 1",
		"annex_aggregation_certificate_expiration_timestamp_seconds [ca_bundle v1.a] 400",
		"annex_aggregation_certificate_expiration_timestamp_seconds [serving v1.a] 300",
		"annex_aggregation_document_size_bytes [discovery v1.a] 4000",
		"annex_aggregation_document_size_bytes [openapi_v3 v1.a] 5000",
		"annex_aggregation_document_success_timestamp_seconds [discovery v1.a] 100",
		"annex_aggregation_document_success_timestamp_seconds [openapi_v3 v1.a] 200",
		"annex_aggregation_fault [ v1.a FailedDiscoveryCheck] 1",
		"annex_aggregation_fault [ANX205 v1.a EndpointEjected] 1",
		"annex_aggregation_front_proxy_certificate_expiration_timestamp_seconds [] 500",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if last := lastToExpire(nil); last.Compare(time.Time{}) != 0 {
		t.Errorf("the last of none expires at %v", last)
	}
}
