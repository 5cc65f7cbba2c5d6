package main

import (
	"context"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/annex-api/annex/extension/extensiontest/conformance"
)

// peer is a server that others wrote, or a kind of resource of the API server itself.
type peer struct {
	name, title string
	// start starts it, if it is a program, and says what there is to check. stop ends what start
	// began, also where that failed.
	start func(ctx context.Context, s *stage) (targets []conformance.Target, stop func() error, err error)
}

// peers is every peer, in the order in which they are checked.
var peers = []peer{
	{"sample-apiserver", "k8s.io/sample-apiserver v0.37.2, with an etcd of its own", startSample},
	{"external-metrics", "the test-adapter of sigs.k8s.io/custom-metrics-apiserver v1.37.0", adapter(of("external.metrics.k8s.io", "v1beta1", "externalmetrics"))},
	// The resource is what the example lists, for the metric "custommetrics" of no resource.
	{"custom-metrics", "its other API", adapter(of("custom.metrics.k8s.io", "v1beta2", "/custommetrics"))},
	{"metrics-server", "sigs.k8s.io/metrics-server v0.9.0, over one node whose kubelet is made up", startMetrics},
	{"builtin", "the API server's own ConfigMaps, Leases, Deployments and ClusterRoles", builtin},
	{"crd", "a custom resource of two versions, with status, scale and a selectable field", custom},
}

func none() error { return nil }

// of is a target of a resource.
func of(group, version, resource string) conformance.Target {
	return conformance.Target{Resource: schema.GroupVersionResource{Group: group, Version: version, Resource: resource}}
}
