package build

import (
	"strings"
	"testing"
)

func TestTreesAreToldApart(t *testing.T) {
	if treeName("/a") == treeName("/b") {
		t.Error("two trees have the same name")
	}
	if treeName("/a") != treeName("/a/../a/") {
		t.Error("one tree has two names")
	}
}

func TestATreeThatIsNoRepositoryIsRefused(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	if _, err := All(t.Context(), Config{Tree: t.TempDir()}); err == nil || !strings.Contains(err.Error(), "repository") {
		t.Errorf("got %v", err)
	}
}
