package widgets_test

import (
	"strings"
	"sync"
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

// Readers, writers and watchers that are slow hold nobody up. What is seen of it takes more than a
// minute each, so that it is looked for at the same time.
func TestSlowClients(t *testing.T) {
	if testing.Short() {
		t.Skip("it waits for a minute and a half; the long form of the tests does")
	}
	t.Parallel()
	running := start(t, "memory://")
	var runs sync.WaitGroup
	defer runs.Wait()
	for _, check := range []string{"requests/slow-body", "watch/slow-reader", "watch/initial-events-once"} {
		target := conformance.Target{
			Config: running.Config, Resource: resource, Slow: true,
			Only: []string{check}, Name: "slow-" + strings.ReplaceAll(check, "/", "-"),
		}
		runs.Go(func() {
			s := conformance.Run(t.Context(), target, nil)
			if s.Err != nil || len(s.Left) > 0 || s.Count(conformance.Passed) != 1 {
				t.Errorf("%s: error %v, left behind: %v, results %v", check, s.Err, s.Left, s.Results)
			}
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
