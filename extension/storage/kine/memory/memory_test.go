package memory_test

import (
	"testing"

	"github.com/go-logr/logr"

	"github.com/annex-api/annex/extension/storage"
	"github.com/annex-api/annex/extension/storage/kine/memory"
)

// open opens a memory, which the test closes at its end.
func open(t *testing.T) *storage.Endpoint {
	t.Helper()
	e, err := storage.Open(t.Context(), "memory://", logr.Discard(), memory.Driver())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func TestEveryOpeningIsItsOwn(t *testing.T) {
	seen := map[string]bool{}
	for range 2 {
		e := open(t)
		seen[e.Targets[0]] = true
	}
	if len(seen) != 2 {
		t.Errorf("two memories have the target %v", seen)
	}
	if _, err := storage.Open(t.Context(), "memory:///dir", logr.Discard(), memory.Driver()); err == nil {
		t.Error("a path is taken")
	}
}
