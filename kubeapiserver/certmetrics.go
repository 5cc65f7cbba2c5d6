package kubeapiserver

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apiserver/pkg/util/x509metrics"
	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"
)

// certificateCounter returns a wrapper that counts extension servers'
// certificates that rely on what is deprecated.
func certificateCounter() (func(http.RoundTripper) http.RoundTripper, error) {
	help, err := helpTexts()
	if err != nil {
		return nil, err
	}
	counter := func(name string) (*metrics.Counter, error) {
		const prefix = "apiserver_kube_aggregator_"
		return registered(metrics.NewCounter(&metrics.CounterOpts{
			Namespace: "apiserver", Subsystem: "kube_aggregator", Name: name,
			Help: help[prefix+name], StabilityLevel: metrics.ALPHA,
		}))
	}
	missingSAN, err := counter("x509_missing_san_total")
	if err != nil {
		return nil, err
	}
	insecureSHA1, err := counter("x509_insecure_sha1_total")
	if err != nil {
		return nil, err
	}
	return x509metrics.NewDeprecatedCertificateRoundTripperWrapperConstructor(missingSAN, insecureSHA1), nil
}

// expirationObserver returns what observes how long client certificates of
// requests are still valid, as k8s.io/apiserver's x509 authenticator does.
func expirationObserver() (func(*http.Request, *x509.Certificate), error) {
	help, err := helpTexts()
	if err != nil {
		return nil, err
	}
	histogram, err := registered(metrics.NewHistogram(&metrics.HistogramOpts{
		Namespace: "apiserver", Subsystem: "client", Name: "certificate_expiration_seconds",
		Help: help["apiserver_client_certificate_expiration_seconds"], StabilityLevel: metrics.ALPHA,
	}))
	if err != nil {
		return nil, err
	}
	return func(r *http.Request, c *x509.Certificate) {
		histogram.WithContext(r.Context()).Observe(time.Until(c.NotAfter).Seconds())
	}, nil
}

// registered returns the metric that was registered under the same name
// before, by packages of the reference that do not export it; one that is new
// is registered.
func registered[M metrics.Registerable](m M) (M, error) {
	err := legacyregistry.Register(m)
	var known prometheus.AlreadyRegisteredError
	if errors.As(err, &known) {
		if existing, ok := known.ExistingCollector.(M); ok {
			return existing, nil
		}
	}
	if err != nil {
		return m, fmt.Errorf("registering %s: %w", m.FQName(), err)
	}
	return m, nil
}

// helpTexts are those of all metrics by name: a metric is only taken for the
// same if its text is.
func helpTexts() (map[string]string, error) {
	families, err := legacyregistry.DefaultGatherer.Gather()
	if err != nil {
		return nil, fmt.Errorf("reading the metrics registry: %w", err)
	}
	help := map[string]string{}
	for _, f := range families {
		help[f.GetName()] = withoutStability(f.GetHelp())
	}
	return help, nil
}

// withoutStability removes the stability prefix that the registry puts before a help
// text, and puts there again.
func withoutStability(help string) string {
	const prefix = "[ALPHA] "
	if len(help) > len(prefix) && help[:len(prefix)] == prefix {
		return help[len(prefix):]
	}
	return help
}
