package docs

import (
	"bytes"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/spf13/pflag"

	"github.com/annex-api/annex/extension"
)

const referencePage = "docs/extend/reference.md"

var update = flag.Bool("update", false, "write the reference of the SDK anew")

func TestReferenceIsThatOfTheCode(t *testing.T) {
	var help bytes.Buffer
	if err := extension.Run(t.Context(), "widgets", []string{"--help"}, &help); err != pflag.ErrHelp {
		t.Fatal(err)
	}
	want, err := reference(repository, help.String())
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(filepath.Join("..", "..", filepath.FromSlash(referencePage)), []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := fs.ReadFile(repository, referencePage)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what the code says: run go test ./internal/docs -run Reference -update", referencePage)
	}
	for _, name := range []string{"### Resource\n", "| `StorageVersion` |", "func Action[", "--standalone"} {
		if !strings.Contains(want, name) {
			t.Errorf("%q is not in the reference", name)
		}
	}
}

func TestReferenceSaysWhatCommentsSay(t *testing.T) {
	tree := fstest.MapFS{}
	for _, c := range chapters {
		tree[c.folder+"/empty.go"] = &fstest.MapFile{Data: []byte("package x\n")}
	}
	tree["extension/resource.go"] = &fstest.MapFile{Data: []byte(`package x

// Thing is one; see [Other].
type Thing struct {
	// Size is in bytes, 1 | 2.
	Size int
	hidden int
}

// Grow makes it
// larger.
func (t *Thing) Grow(by int) error { return nil }

func hidden() {}
`)}
	tree["extension/more.go"] = &fstest.MapFile{Data: []byte("package x\n\n// Other is another.\nfunc Other() {}\n")}
	got, err := reference(tree, "--flag")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"## A stored kind\n\n### Thing\n\nThing is one; see `Other`.\n",
		"| `Size` | `int` | Size is in bytes, 1 \\| 2. |\n",
		"```go\nfunc (t *Thing) Grow(by int) error\n```\n\nGrow makes it larger.",
		"## Further\n\n```go\nfunc Other()\n```\n", "--flag\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
	if strings.Contains(got, "hidden") {
		t.Errorf("what is not exported is told:\n%s", got)
	}
}
