package schemaonly_test

import (
	"testing"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/annex-api/annex/examples/schemaonly"
	"github.com/annex-api/annex/extension"
	"github.com/annex-api/annex/extension/extensiontest"
	"github.com/annex-api/annex/extension/extensiontest/conformance"
	"github.com/annex-api/annex/extension/storage/drivers"
)

// The kit passes in each version, and over each driver.
func TestConformance(t *testing.T) {
	gadgets := schema.GroupResource{Group: "schemaonly.example.com", Resource: "gadgets"}
	for _, c := range []struct {
		name, version string
		storage       func(t *testing.T) string
	}{
		{"memory", "v1", func(*testing.T) string { return "memory://" }},
		{"sqlite", "v1beta1", func(t *testing.T) string { return "sqlite://" + t.TempDir() + "/gadgets.db" }},
		{"embedded", "v1", func(t *testing.T) string { return "embedded://" + t.TempDir() + "/etcd" }},
	} {
		if c.name != "memory" && testing.Short() { // the drivers are tested without it, too
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			running := extensiontest.Start(t, func(config *extension.Config) { config.Storage = c.storage(t) }, schemaonly.Gadgets(), extension.Drivers(drivers.All()...))
			// An etcd that is young remembers everything.
			extensiontest.Conform(t, running, conformance.Target{Resource: gadgets.WithVersion(c.version)}, "watch/expired", "watch/error-event")
		})
	}
}

func TestConversionsLoseNothing(t *testing.T) {
	extensiontest.RoundTrip(t, schemaonly.Gadgets())
}
