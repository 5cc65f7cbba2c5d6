package aggregator

import (
	"strings"
	"sync/atomic"
	"time"

	"k8s.io/component-base/metrics"

	"github.com/annex-api/annex/apis/aggregation/v1alpha1"
)

var (
	stateDesc = metrics.NewDesc("annex_aggregation_apiservice_state",
		"1 for the state of an APIService as this server sees it: Healthy, Degraded, Unavailable or Unknown.",
		[]string{"name", "state"}, nil, metrics.ALPHA, "")
	faultDesc = metrics.NewDesc("annex_aggregation_fault",
		"1 for each fault of an APIService that this server knows of, as a word, with the code that explains it.",
		[]string{"name", "reason", "code"}, nil, metrics.ALPHA, "")
	documentSuccessDesc = metrics.NewDesc("annex_aggregation_document_success_timestamp_seconds",
		"When a document of an extension server was downloaded, or found unchanged, for the last time.",
		[]string{"name", "document"}, nil, metrics.ALPHA, "")
	documentSizeDesc = metrics.NewDesc("annex_aggregation_document_size_bytes",
		"Sizes of extension servers' documents as they are kept.",
		[]string{"name", "document"}, nil, metrics.ALPHA, "")
	certificateDesc = metrics.NewDesc("annex_aggregation_certificate_expiration_timestamp_seconds",
		"When the first of the certificates that the endpoints of an extension server show expires, and when the last one of the CA bundle does.",
		[]string{"name", "certificate"}, nil, metrics.ALPHA, "")
	frontProxyDesc = metrics.NewDesc("annex_aggregation_front_proxy_certificate_expiration_timestamp_seconds",
		"When the certificate expires that this server shows to extension servers.",
		nil, nil, metrics.ALPHA, "")
)

// observed makes metrics of what an Aggregator says of APIServices.
type observed struct {
	metrics.BaseStableCollector
	aggregator atomic.Pointer[Aggregator]
}

// DescribeWithStability implements metrics.StableCollector.
func (o *observed) DescribeWithStability(ch chan<- *metrics.Desc) {
	for _, d := range []*metrics.Desc{stateDesc, faultDesc, documentSuccessDesc, documentSizeDesc, certificateDesc, frontProxyDesc} {
		ch <- d
	}
}

// CollectWithStability implements metrics.StableCollector.
func (o *observed) CollectWithStability(ch chan<- metrics.Metric) {
	if a := o.aggregator.Load(); a != nil {
		collectObserved(a.Observe(), func(d *metrics.Desc, value float64, labels ...string) {
			ch <- metrics.NewLazyConstMetric(d, metrics.GaugeValue, value, labels...)
		})
	}
}

// collectObserved makes metrics of objects. Their words are the layer's own, and what is not
// a word is left out: nobody else can add a series.
func collectObserved(objects []v1alpha1.RemoteAPIService, gauge func(d *metrics.Desc, value float64, labels ...string)) {
	var frontProxy *v1alpha1.Certificate
	for i := range objects {
		name, s := objects[i].Name, &objects[i].Status
		gauge(stateDesc, 1, name, string(s.State))
		told := map[string]bool{}
		for _, f := range s.Faults {
			if !told[f.Reason] && word(f.Reason) {
				told[f.Reason] = true
				code := f.Code
				if !word(code) {
					code = ""
				}
				gauge(faultDesc, 1, name, f.Reason, code)
			}
		}
		for document, d := range map[string]v1alpha1.Document{"discovery": s.Discovery.Document, "openapi_v2": s.OpenAPIV2, "openapi_v3": s.OpenAPIV3} {
			if !d.Fetched.IsZero() {
				gauge(documentSuccessDesc, seconds(d.Fetched.Time), name, document)
				gauge(documentSizeDesc, float64(d.Bytes), name, document)
			}
		}
		if c := s.Certificates.Serving; c != nil {
			gauge(certificateDesc, seconds(c.NotAfter.Time), name, "serving")
		}
		if last := lastToExpire(s.Certificates.CABundle); !last.IsZero() {
			gauge(certificateDesc, seconds(last), name, "ca_bundle")
		}
		if s.Certificates.FrontProxy != nil {
			frontProxy = s.Certificates.FrontProxy
		}
	}
	if frontProxy != nil {
		gauge(frontProxyDesc, seconds(frontProxy.NotAfter.Time))
	}
}

// lastToExpire is when the last of some certificates expires: while an authority is
// replaced, its old certificate may expire beside the new one.
func lastToExpire(all []v1alpha1.Certificate) (last time.Time) {
	for _, c := range all {
		if c.NotAfter.After(last) {
			last = c.NotAfter.Time
		}
	}
	return last
}

func seconds(t time.Time) float64 { return float64(t.Unix()) }

// word says whether a text is one short word of letters and digits.
func word(text string) bool {
	return text != "" && len(text) <= 64 && !strings.ContainsFunc(text, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9')
	})
}
