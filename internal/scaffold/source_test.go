package scaffold

import (
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
)

func TestReleasesHaveAChecksum(t *testing.T) {
	for name, test := range map[string]struct {
		info debug.BuildInfo
		want string
	}{
		"go install of a release":  {debug.BuildInfo{Main: debug.Module{Path: Module, Version: "v0.2.0", Sum: "h1:x"}}, "v0.2.0"},
		"go build in a checkout":   {debug.BuildInfo{Main: debug.Module{Path: Module, Version: "v0.2.1-0.20261128120000-abcdefabcdef+dirty"}}, ""},
		"inside another program":   {debug.BuildInfo{Main: debug.Module{Path: "example.com/x"}, Deps: []*debug.Module{{Path: Module, Version: "v0.3.0", Sum: "h1:y"}}}, "v0.3.0"},
		"replaced in another one":  {debug.BuildInfo{Deps: []*debug.Module{{Path: Module, Version: "v0.3.0", Sum: "h1:y", Replace: &debug.Module{Path: "/src"}}}}, ""},
		"without any build record": {debug.BuildInfo{}, ""},
	} {
		if got := release(&test.info); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

func TestACheckoutIsFound(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, named := range []string{"", root, "../.."} {
		if got, err := FindAnnex(named); err != nil || got.Checkout != root {
			t.Errorf("%q: %+v, %v", named, got, err)
		}
	}
	if _, err := FindAnnex(t.TempDir()); err == nil || !strings.Contains(err.Error(), "is no checkout of Annex") {
		t.Errorf("another folder: %v", err)
	}
}
