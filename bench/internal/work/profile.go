package work

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/annex-api/annex/bench/internal/host"
)

// profileSeconds last for several turns of this server, the others' between them included.
const profileSeconds = 10

// profile begins to take profiles of the server's processor time and of what it
// allocates, for as many seconds; finish waits until they are written. Without a
// folder nothing is done.
func profile(ctx context.Context, h *host.Host, folder, name string, seconds int) (finish func() error) {
	if folder == "" {
		return func() error { return nil }
	}
	done := make(chan error, 2)
	for _, kind := range []string{"profile", "allocs"} {
		go func() {
			done <- fetchProfile(ctx, h, folder, name, kind, fmt.Sprintf("%s?seconds=%d", kind, seconds))
		}()
	}
	return func() error { return errors.Join(<-done, <-done) }
}

// profileHeap writes what is in use now.
func profileHeap(ctx context.Context, h *host.Host, folder, name string) error {
	if folder == "" {
		return nil
	}
	return errors.Join(
		fetchProfile(ctx, h, folder, name, "heap", "heap"),
		fetchProfile(ctx, h, folder, name, "goroutine", "goroutine"),
	)
}

// fetchProfile writes <folder>/<server>-<name>.<kind>.pprof.
func fetchProfile(ctx context.Context, h *host.Host, folder, name, kind, path string) error {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return fmt.Errorf("making the folder for profiles: %w", err)
	}
	data, err := h.Get(ctx, "/debug/pprof/"+path, nil)
	if err != nil {
		return fmt.Errorf("profiling: %w", err)
	}
	return os.WriteFile(filepath.Join(folder, h.Server.Name()+"-"+name+"."+kind+".pprof"), data, 0o600)
}
