package memory_test

import (
	"testing"

	"github.com/go-logr/logr"

	"github.com/annex-api/annex/extension/storage"
	"github.com/annex-api/annex/extension/storage/kine/memory"
)

func TestEveryOpeningIsItsOwn(t *testing.T) {
	seen := map[string]bool{}
	for range 2 {
		e, err := storage.Open(t.Context(), "memory://", logr.Discard(), memory.Driver())
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		}()
		seen[e.Targets[0]] = true
	}
	if len(seen) != 2 {
		t.Errorf("two memories have the target %v", seen)
	}
	if _, err := storage.Open(t.Context(), "memory:///dir", logr.Discard(), memory.Driver()); err == nil {
		t.Error("a path is taken")
	}
}
