// Package extensiontest runs extension API servers inside Go tests: alone, by [Start], or
// behind a host API server, by [StartHost].
package extensiontest

import (
	"context"
	"errors"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/annex-api/annex/extension"
	"github.com/annex-api/annex/extension/storage/kine/memory"
)

// startTimeout bounds the wait for a server to be ready.
const startTimeout = 30 * time.Second

// Running is a server that runs until the test ends.
type Running struct {
	Server *extension.Server
	// Config reaches it as a user who may do everything.
	Config *rest.Config
}

// Admin is the user of Running.Config.
func Admin() extension.Caller {
	return extension.Caller{Name: "admin", Groups: []string{"system:masters", "system:authenticated"}}
}

// Start runs a server of parts, in process and standalone, with storage in memory. It is ready, or the test has
// failed. change may change its configuration before.
func Start(t testing.TB, change func(*extension.Config), parts ...extension.Part) *Running {
	t.Helper()
	c := extension.Config{
		Name:       "test",
		Storage:    "memory://",
		Standalone: &extension.Standalone{},
	}
	if change != nil {
		change(&c)
	}
	s := serve(t, c, startTimeout, parts)
	return &Running{Server: s, Config: asAdmin(t, s)}
}

// serve runs a server until the test ends. It is ready within a time, or the test has failed.
func serve(t testing.TB, c extension.Config, within time.Duration, parts []extension.Part) *extension.Server {
	t.Helper()
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	s, err := extension.New(ctx, c, append(parts, extension.Drivers(memory.Driver()))...)
	if err != nil {
		stop()
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("the server ended with an error: %v", err)
		}
	})
	select {
	case <-s.Ready():
	case err := <-ended:
		ended <- err
		t.Fatalf("the server ended before it was ready: %v", err)
	case <-time.After(within):
		t.Fatalf("the server is not ready after %v", within)
	}
	return s
}

// asAdmin reaches a server in process.
func asAdmin(t testing.TB, s *extension.Server) *rest.Config {
	t.Helper()
	config, err := s.As(Admin())
	if err != nil {
		t.Fatal(err)
	}
	return config
}
