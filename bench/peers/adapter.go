package main

import (
	"context"
	"errors"

	"github.com/annex-api/annex/bench/internal/host"
	"github.com/annex-api/annex/extension/extensiontest/conformance"
)

// startAdapter runs the example of the metrics adapters. It also listens on port 8080, which cannot be
// changed.
func startAdapter(ctx context.Context, s *stage) (_ []conformance.Target, stop func() error, err error) {
	path, err := s.build(ctx, "test-adapter", "bench/peers/custommetrics", "sigs.k8s.io/custom-metrics-apiserver/test-adapter")
	if err != nil {
		return nil, none, err
	}
	port, err := host.FreePort()
	if err != nil {
		return nil, none, err
	}
	p, err := s.site.Start(ctx, "test-adapter", path, port, append(s.delegated(port), "--lister-kubeconfig="+s.site.Kubeconfig())...)
	if err != nil {
		return nil, none, err
	}
	targets := []conformance.Target{
		of("external.metrics.k8s.io", "v1beta1", "externalmetrics"),
		// It is what the example lists, for the metric "custommetrics" of no resource.
		of("custom.metrics.k8s.io", "v1beta2", "/custommetrics"),
	}
	stop = func() error { return errors.Join(s.unregister(ctx, targets...), p.Stop()) }
	for i := range targets {
		targets[i].Direct = s.direct(p)
		if err := s.register(ctx, p, targets[i].Resource.Group, targets[i].Resource.Version); err != nil {
			return nil, stop, err
		}
	}
	return targets, stop, nil
}
