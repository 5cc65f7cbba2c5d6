package evidence

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func says(text string) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.WriteString(w, text)
		return err
	}
}

func TestATableIsPutInItsPlace(t *testing.T) {
	const empty = "<!-- begin one -->\n<!-- end one -->\n"
	for name, c := range map[string]struct{ document, table, want string }{
		"the first one": {"# Title\n\n" + empty + "\nThe end.\n", "| a |\n", "# Title\n\n<!-- begin one -->\n\n| a |\n\n<!-- end one -->\n\nThe end.\n"},
		"another one":   {"<!-- begin one -->\n\n| old |\n\n<!-- end one -->\n", "| new |\n", "<!-- begin one -->\n\n| new |\n\n<!-- end one -->\n"},
		"of two": {
			"<!-- begin two -->\n| two |\n<!-- end two -->\n" + empty, "| a |",
			"<!-- begin two -->\n| two |\n<!-- end two -->\n<!-- begin one -->\n\n| a |\n\n<!-- end one -->\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "page.md")
			if err := os.WriteFile(path, []byte(c.document), 0o600); err != nil {
				t.Fatal(err)
			}
			for range 2 { // the second time changes nothing
				if err := Replace(path, "one", says(c.table)); err != nil {
					t.Fatal(err)
				}
				if got, err := os.ReadFile(path); err != nil || string(got) != c.want {
					t.Errorf("got %q, %v; want %q", got, err, c.want)
				}
			}
		})
	}
}

func TestADocumentThatDoesNotExistIsMade(t *testing.T) {
	path := filepath.Join(t.TempDir(), "page.md")
	if err := Replace(path, "one", says("| a |")); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "<!-- begin one -->\n\n| a |\n\n<!-- end one -->\n" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestADocumentWithoutThePlaceIsLeftAlone(t *testing.T) {
	for _, document := range []string{
		"", "# Title\n", "<!-- begin one -->\n", "<!-- end one -->\n", "<!-- end one -->\n<!-- begin one -->\n",
		"<!-- begin other -->\n<!-- end other -->\n", "text <!-- begin one --> text <!-- end one -->\n",
	} {
		path := filepath.Join(t.TempDir(), "page.md")
		if err := os.WriteFile(path, []byte(document), 0o600); err != nil {
			t.Fatal(err)
		}
		err := Replace(path, "one", says("| a |"))
		if err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%q: got %v", document, err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != document {
			t.Errorf("%q became %q, %v", document, got, err)
		}
	}
}

func TestATableThatFailsChangesNothing(t *testing.T) {
	path, broken := filepath.Join(t.TempDir(), "page.md"), errors.New("broken")
	if err := Replace(path, "one", func(io.Writer) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the document was made: %v", err)
	}
}

// What make evidence writes has its place.
func TestTheDocumentsHaveTheirPlaces(t *testing.T) {
	for document, name := range map[string]string{"performance.md": "works", "growth.md": "growth", "faults.md": "faults"} {
		content, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "evidence", document))
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), document)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := Replace(path, name, says("| new |")); err != nil {
			t.Error(err)
		}
		after, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(after), "| new |") || len(after) > len(content) {
			t.Errorf("%s: %d bytes became %d, %v", document, len(content), len(after), err)
		}
	}
}
