package docs

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

var repository = os.DirFS(filepath.Join("..", ".."))

// documents lists all Markdown files of the repository.
func documents(t *testing.T) []string {
	t.Helper()
	var names []string
	err := fs.WalkDir(repository, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (strings.HasPrefix(d.Name(), ".") && name != "." && name != ".github" || d.Name() == "node_modules"):
			return fs.SkipDir
		case !d.IsDir() && strings.HasSuffix(name, ".md"):
			names = append(names, name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(names) < 20 {
		t.Fatalf("only %d documents were found", len(names))
	}
	return names
}

func TestLinksLeadSomewhere(t *testing.T) {
	for _, name := range documents(t) {
		broken, err := brokenLinks(repository, name)
		if err != nil {
			t.Fatal(err)
		}
		for _, sentence := range broken {
			t.Error(sentence)
		}
	}
}

func TestBrokenLinksAreFound(t *testing.T) {
	for line, want := range map[string]string{
		"[x](other.md)":                     "",
		"[x](../README.md)":                 "",
		"[x](../code)":                      "",
		"[x](../code/a.go)":                 "",
		"![x](picture.svg)":                 "",
		`[x](other.md "a title")`:           "",
		"[x](other.md#two-words)":           "",
		"[x](other.md#two-words-1)":         "",
		"[x](other.md#a-link)":              "",
		"[x](#here)":                        "",
		"[x](https://example.com/gone.md)":  "",
		"[x](mailto:somebody@example.com)":  "",
		"`[x](gone.md)`":                    "",
		"``a ` [x](gone.md)``":              "",
		"[x]: other.md":                     "",
		"[x](gone.md)":                      "leads to no file",
		"a [x](other.md) and [y](gone.md)":  "leads to no file",
		"![x](gone.svg)":                    "leads to no file",
		"[x](Other.md)":                     "leads to no file",
		"[![x](picture.svg)](gone.md)":      "leads to no file",
		"[x]: gone.md":                      "leads to no file",
		"[x](other.md#three-words)":         "leads to no heading",
		"[x](other.md#in-code)":             "leads to no heading",
		"[x](#there)":                       "leads to no heading",
		"[x](picture.svg#part)":             "no document",
		"[x](../../README.md)":              "leaves the repository",
		"[x](/README.md)":                   "is absolute",
		"`code` [x](gone.md) `code`":        "leads to no file",
		"| a table | [x](gone.md) | cell |": "leads to no file",
	} {
		tree := fstest.MapFS{
			"README.md":        {},
			"code/a.go":        {},
			"docs/picture.svg": {},
			"docs/other.md":    {Data: []byte("# Two words\n## Two words\n## [A link](README.md)\n```\n# In code\n```\n")},
			"docs/page.md":     {Data: []byte("# Here\n```\n[x](gone.md)\n```\n" + line + "\n")},
		}
		broken, err := brokenLinks(tree, "docs/page.md")
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Join(broken, "; ")
		if (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("%s: got %q, want %q", line, got, want)
		}
		if got != "" && !strings.HasPrefix(got, "docs/page.md:5: ") {
			t.Errorf("%s: %q does not name the line", line, got)
		}
	}
}

func TestEveryDocumentIsReachedFromTheIndex(t *testing.T) {
	seen, err := reached(repository, "docs/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range documents(t) {
		if strings.HasPrefix(name, "docs/") && !seen[name] {
			t.Errorf("no link leads to %s from docs/README.md", name)
		}
	}
}

func TestDocumentsThatNobodyLinksToAreFound(t *testing.T) {
	tree := fstest.MapFS{
		"docs/README.md":    {Data: []byte("[x](one.md#part), [y](https://example.com/far.md), [z](gone.md)\n")},
		"docs/one.md":       {Data: []byte("[x](below/two.md) `[y](three.md)`\n")},
		"docs/below/two.md": {Data: []byte("[back](../README.md)\n")},
		"docs/three.md":     {},
	}
	seen, err := reached(tree, "docs/README.md")
	if err != nil {
		t.Fatal(err)
	}
	if got := slices.Sorted(maps.Keys(seen)); !slices.Equal(got, []string{"docs/README.md", "docs/below/two.md", "docs/one.md"}) {
		t.Errorf("reached %q", got)
	}
}
