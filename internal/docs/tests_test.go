package docs

import (
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"
)

const featuresPage = "docs/extend/features.md"

func TestTestsThatDocumentsNameExist(t *testing.T) {
	for _, name := range documents(t) {
		wrong, named, err := wrongTests(repository, name)
		if err != nil {
			t.Fatal(err)
		}
		for _, sentence := range wrong {
			t.Error(sentence)
		}
		if name == featuresPage && named < 30 {
			t.Errorf("%s names %d tests only", name, named)
		}
	}
}

// Each feature of the SDK has a test.
func TestEveryFeatureHasATest(t *testing.T) {
	content, err := fs.ReadFile(repository, featuresPage)
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	prose(string(content), func(number int, line string) {
		if cells := cellsOf(line); cells != nil && cells[0] != "feature" && strings.Trim(cells[0], "- ") != "" {
			rows++
			if !testLink.MatchString(line) {
				t.Errorf("%s:%d: %s has no test", featuresPage, number, cells[0])
			}
		}
	})
	if rows < 25 {
		t.Errorf("%s has %d rows only", featuresPage, rows)
	}
}

func TestTestsThatDoNotExistAreFound(t *testing.T) {
	tree := fstest.MapFS{"docs/a.md": {}, "x/a_test.go": {Data: []byte("package x\n\nfunc TestOne(t *testing.T) {}\n")}, "x/a.go": {Data: []byte("package x\n\nfunc TestTwo() {}\n")}}
	for line, want := range map[string]string{
		"[TestOne](../x/a_test.go)":   "",
		"[one](../x/none_test.go)":    "", // a broken link, of which another test tells
		"[TestTwo](../x/a_test.go)":   "docs/a.md:1: there is no TestTwo in x/a_test.go",
		"[TestOn](../x/a_test.go)":    "docs/a.md:1: there is no TestOn in x/a_test.go",
		"[TestTwo](../x/a.go)":        "docs/a.md:1: TestTwo is to be in x/a.go, which is no file of tests",
		"[TestOne](../x/b_test.go)":   "docs/a.md:1: TestOne is to be in x/b_test.go, which is no file of tests",
		"```\n[TestTwo](a.go)\n```\n": "",
	} {
		tree["docs/a.md"].Data = []byte(line)
		wrong, _, err := wrongTests(tree, "docs/a.md")
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(wrong, "; "); got != want {
			t.Errorf("%s: %q, not %q", line, got, want)
		}
	}
}
