package e2e

import (
	"context"
	"path/filepath"
	"slices"
	"testing"

	"github.com/annex-api/annex/extension/extensiontest/conformance"
)

// etcdOf is an etcd of a test that can be stopped and started. It ends after what is served over it,
// when that is started later.
func etcdOf(t *testing.T) (url string, power conformance.Storage) {
	t.Helper()
	dir := shortTemp(t)
	socket := filepath.Join(dir, "etcd")
	var running *process
	begin := func(context.Context) (err error) {
		running, err = launch(command{name: "etcd", args: []string{
			"--data-dir=" + filepath.Join(dir, "data"), "--listen-client-urls=unix://" + socket,
			"--advertise-client-urls=unix://" + socket, "--listen-peer-urls=unix://" + filepath.Join(dir, "peer"),
		}})
		return err
	}
	if err := begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		running.end()
		running.show(t)
	})
	return "etcd://" + socket, conformance.Storage{Start: begin, Stop: func(context.Context) error { running.end(); return nil }}
}

// TestConformanceOfExamples gives the kit all that it may ask for: servers of the SDK that are
// registered, straight ways to them, another user, leave to strip the APIService, a stream, and a
// storage that stops. Of what it sees from outside nothing is left out.
func TestConformanceOfExamples(t *testing.T) {
	longForm(t)
	c := startUp(t, shortTemp(t))
	startAllControllers(t, c)
	url, power := etcdOf(t)
	nobody := c.user(t, "nobody")
	target := func(name string) conformance.Target {
		x := examples[slices.IndexFunc(examples, func(x example) bool { return x.name == name })]
		if name == "shell" {
			x.storage = func(*testing.T) string { return url }
		}
		s := serveExample(t, c, x)
		return conformance.Target{
			Config: c.admin, Second: nobody, Direct: s.direct, Intrusive: true, Resource: x.resource,
			Skip: slices.Concat(longChecks, []string{"stream/long", "storage/down"}),
		}
	}
	widgets, shells := target("widgets"), target("shell")
	shells.Skip = append(shells.Skip, "watch/expired", "watch/error-event") // an etcd that is young remembers everything
	t.Run("while all is up", func(t *testing.T) {
		t.Run("widgets", func(t *testing.T) {
			t.Parallel()
			conforms(t, widgets, nil, nil)
		})
		t.Run("shells", func(t *testing.T) {
			t.Parallel()
			conforms(t, shells, nil, []string{
				"generation/status", "status/isolated", "scale/get-put", // it has neither
				"apply/other-version", "versions/round-trip", "versions/hub-only-field", // one version
			})
		})
		t.Run("a session", func(t *testing.T) {
			t.Parallel()
			stream := shells
			stream.Only, stream.Skip, stream.Slow = []string{"stream/long"}, nil, true
			stream.Stream = conformance.Stream{Path: "attach", WebSocket: true}
			conforms(t, stream, nil, nil)
		})
		for _, check := range longChecks {
			t.Run(check, func(t *testing.T) {
				t.Parallel()
				long := widgets
				long.Only, long.Skip, long.Slow = []string{check}, nil, true
				conforms(t, long, nil, nil)
			})
		}
	})
	shells.Only, shells.Skip, shells.Storage = []string{"storage/down"}, nil, power
	conforms(t, shells, nil, nil)
}
