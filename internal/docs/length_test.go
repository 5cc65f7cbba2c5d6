package docs

import (
	"io/fs"
	"slices"
	"strings"
	"testing"
)

// maxWords of a document, the bars and rules of tables not counted: who reads more?
const maxWords = 1800

func TestDocumentsAreShort(t *testing.T) {
	for _, name := range documents(t) {
		if name == "CHANGELOG.md" || name == referencePage || name == commandsPage || name == toolsPage { // one only grows, the others are looked up
			continue
		}
		content, err := fs.ReadFile(repository, name)
		if err != nil {
			t.Fatal(err)
		}
		words := slices.DeleteFunc(strings.Fields(string(content)), func(word string) bool { return word == "|" || word == "---" })
		if n := len(words); n > maxWords {
			t.Errorf("%s has %d words, and may have %d: make it two, or shorter", name, n, maxWords)
		}
	}
}
