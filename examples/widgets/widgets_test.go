package widgets_test

import (
	"testing"

	"github.com/annex-api/annex/examples/widgets"
	v1 "github.com/annex-api/annex/examples/widgets/v1"
	"github.com/annex-api/annex/extension"
	"github.com/annex-api/annex/extension/extensiontest"
	"github.com/annex-api/annex/extension/extensiontest/conformance"
	"github.com/annex-api/annex/extension/storage/drivers"
)

// The kit passes in each version, and over each driver.
func TestConformance(t *testing.T) {
	resource := v1.GroupVersion.WithResource("widgets").GroupResource()
	for _, c := range []struct {
		name, version string
		storage       func(t *testing.T) string
	}{
		{"embedded", "v1", func(t *testing.T) string { return "embedded://" + t.TempDir() + "/etcd" }},
		{"memory", "v1beta1", func(*testing.T) string { return "memory://" }},
		{"sqlite", "v1", func(t *testing.T) string { return "sqlite://" + t.TempDir() + "/widgets.db" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			running := extensiontest.Start(t, func(config *extension.Config) { config.Storage = c.storage(t) }, widgets.Widgets, extension.Drivers(drivers.All()...))
			extensiontest.Conform(t, running, conformance.Target{Resource: resource.WithVersion(c.version)})
		})
	}
}

func TestConversionsLoseNothing(t *testing.T) {
	extensiontest.RoundTrip(t, widgets.Widgets)
}
