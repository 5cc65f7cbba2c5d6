package kubeapiserver

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apiserver/pkg/util/x509metrics"
	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"
)

// certificateCounter returns a wrapper that counts extension servers'
// certificates that rely on what is deprecated.
//
// The two counters are registered by a package of the reference that its
// config types link in, and are not exported there: they are looked up in the
// registry by their name.
func certificateCounter() (func(http.RoundTripper) http.RoundTripper, error) {
	families, err := legacyregistry.DefaultGatherer.Gather()
	if err != nil {
		return nil, fmt.Errorf("reading the metrics registry: %w", err)
	}
	help := map[string]string{}
	for _, f := range families {
		help[f.GetName()] = f.GetHelp()
	}
	counter := func(name string) (*metrics.Counter, error) {
		full := "apiserver_kube_aggregator_" + name
		c := metrics.NewCounter(&metrics.CounterOpts{
			Namespace: "apiserver", Subsystem: "kube_aggregator", Name: name,
			Help: unstable(help[full]), StabilityLevel: metrics.ALPHA,
		})
		err := legacyregistry.Register(c)
		var known prometheus.AlreadyRegisteredError
		if errors.As(err, &known) {
			if existing, ok := known.ExistingCollector.(*metrics.Counter); ok {
				return existing, nil
			}
		}
		if err != nil {
			return nil, fmt.Errorf("registering %s: %w", full, err)
		}
		return c, nil
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

// unstable removes the stability prefix that the registry puts before a help
// text, and puts there again.
func unstable(help string) string {
	const prefix = "[ALPHA] "
	if len(help) > len(prefix) && help[:len(prefix)] == prefix {
		return help[len(prefix):]
	}
	return help
}
