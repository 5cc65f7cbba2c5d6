package main

import (
	"context"
	"errors"

	"github.com/annex-api/annex/bench/internal/host"
	"github.com/annex-api/annex/extension/extensiontest/conformance"
)

// adapter runs the example of the metrics adapters and checks one of its two APIs: while a version is
// Stale, namespaces do not end, so that one must not be registered beside the other. It also listens on
// port 8080, which cannot be changed.
func adapter(target conformance.Target) func(context.Context, *stage) ([]conformance.Target, func() error, error) {
	return func(ctx context.Context, s *stage) (_ []conformance.Target, stop func() error, err error) {
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
		stop = func() error { return errors.Join(s.unregister(ctx, target), p.Stop()) }
		target.Direct = s.direct(p)
		return []conformance.Target{target}, stop, s.register(ctx, p, target.Resource.Group, target.Resource.Version)
	}
}
