package docs

import (
	"io/fs"
	"strings"
	"testing"
)

// maxWords of a document: who reads more?
const maxWords = 1800

func TestDocumentsAreShort(t *testing.T) {
	for _, name := range documents(t) {
		if name == "CHANGELOG.md" { // it only grows
			continue
		}
		content, err := fs.ReadFile(repository, name)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(strings.Fields(string(content))); n > maxWords {
			t.Errorf("%s has %d words, and may have %d: make it two, or shorter", name, n, maxWords)
		}
	}
}
