package widgets_test

import (
	"strings"
	"testing"

	"k8s.io/apiserver/pkg/storage/etcd3/testserver"

	"github.com/annex-api/annex/examples/widgets"
	v1 "github.com/annex-api/annex/examples/widgets/v1"
	"github.com/annex-api/annex/extension"
	"github.com/annex-api/annex/extension/extensiontest"
	"github.com/annex-api/annex/extension/extensiontest/conformance"
	"github.com/annex-api/annex/extension/extensiontest/postgres"
	"github.com/annex-api/annex/extension/storage/drivers"
)

var resource = v1.GroupVersion.WithResource("widgets")

// The kit passes in each version, and over each driver. The short form has one driver for each version.
func TestConformance(t *testing.T) {
	for _, c := range []struct {
		name, version string
		storage       func(t *testing.T) string
		long          bool
	}{
		{"embedded", "v1", func(t *testing.T) string { return "embedded://" + t.TempDir() + "/etcd" }, false},
		{"memory", "v1beta1", func(*testing.T) string { return "memory://" }, false},
		{"sqlite", "v1", func(t *testing.T) string { return "sqlite://" + t.TempDir() + "/widgets.db" }, false},
		{"postgres", "v1beta1", func(t *testing.T) string { return postgres.Start(t) }, true},
		{"etcd", "v1", etcdURL, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.long && testing.Short() {
				t.Skip("it starts a database; the long form of the tests does")
			}
			running := start(t, c.storage(t))
			// An etcd that is young remembers everything.
			extensiontest.Conform(t, running, conformance.Target{Resource: resource.GroupResource().WithVersion(c.version)}, "watch/expired", "watch/error-event")
		})
	}
}

func start(t *testing.T, storage string) *extensiontest.Running {
	t.Helper()
	return extensiontest.Start(t, func(config *extension.Config) { config.Storage = storage }, widgets.Widgets, extension.Drivers(drivers.All()...))
}

// etcdURL runs an etcd that listens on loopback.
func etcdURL(t *testing.T) string {
	t.Helper()
	client := testserver.RunEtcd(t, testserver.NewTestConfig(t))
	return "etcd://" + strings.TrimPrefix(client.Endpoints()[0], "http://")
}

func TestConversionsLoseNothing(t *testing.T) {
	extensiontest.RoundTrip(t, widgets.Widgets)
}
