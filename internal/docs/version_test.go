package docs

import (
	"io/fs"
	"regexp"
	"testing"

	"github.com/annex-api/annex/kubeapiserver/version"
)

var release = regexp.MustCompile(`v1\.\d+\.\d+`)

// What these documents say was measured, or holds, with the Kubernetes that is built in.
func TestDocumentsNameTheVersion(t *testing.T) {
	evidence, err := fs.Glob(repository, "docs/evidence/*.md")
	if err != nil || len(evidence) < 3 {
		t.Fatalf("%q, %v", evidence, err)
	}
	for _, name := range append(evidence, "README.md", "docs/operate/differences-from-kube-apiserver.md", "docs/operate/install.md") {
		content, err := fs.ReadFile(repository, name)
		if err != nil {
			t.Fatal(err)
		}
		named := release.FindAllString(string(content), -1)
		if len(named) == 0 {
			t.Errorf("%s names no version", name)
		}
		for _, v := range named {
			if v != version.Kubernetes {
				t.Errorf("%s names %s, and %s is built in: measure again", name, v, version.Kubernetes)
			}
		}
	}
}
