// Package memory keeps objects in memory, for tests and for kinds that need no storage: they go with the
// process.
package memory

import (
	"context"
	"errors"
	"net/url"
	"sync"

	"github.com/go-logr/logr"
	"github.com/k3s-io/kine/pkg/drivers"
	kinememory "github.com/k3s-io/kine/pkg/drivers/memory"
	"github.com/k3s-io/kine/pkg/server"

	"github.com/annex-api/annex/extension/storage"
	"github.com/annex-api/annex/extension/storage/kine"
)

// Driver opens memory://. Every opening is a memory of its own.
func Driver() storage.Driver {
	return storage.Driver{Scheme: "memory", Example: "memory://", Open: open}
}

func open(_ context.Context, u *url.URL, log logr.Logger) (*storage.Endpoint, error) {
	if u.Host != "" || u.Path != "" || u.RawQuery != "" {
		return nil, errors.New("memory has no host, path or parameters")
	}
	return kine.Start("memory", log, Backend, kine.Options{}), nil
}

// Backend is an empty memory.
func Backend(ctx context.Context, running *sync.WaitGroup) (server.Backend, error) {
	_, backend, err := kinememory.New(ctx, running, &drivers.Config{})
	if err != nil {
		return nil, err
	}
	if err := backend.Start(ctx); err != nil {
		return nil, err
	}
	return newLateCompaction(ctx, running, backend), nil
}
