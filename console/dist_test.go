package console

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// sources are the files that the page is built from, as web/build.mjs lists them.
func sources(t *testing.T, web fs.FS) []string {
	t.Helper()
	found := []string{"build.mjs", "package.json", "package-lock.json", "tsconfig.json"}
	err := fs.WalkDir(web, "src", func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			found = append(found, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(found)
	return found
}

// The build writes a digest of its sources beside what it makes, so that a page that was changed and
// not built is found without node.
func TestThePageWasBuiltFromItsSource(t *testing.T) {
	web := os.DirFS("web")
	all := sha256.New()
	for _, name := range sources(t, web) {
		content, err := fs.ReadFile(web, name)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(all, "%s\n%x\n", name, sha256.Sum256(content))
	}
	written, err := os.ReadFile("dist/sources.sha256")
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(all.Sum(nil)); got != strings.TrimSpace(string(written)) {
		t.Error("console/dist was built from another source: run make console")
	}
}

// A build gives, byte for byte, what is committed. make console-check runs it for certain.
func TestABuildGivesWhatIsCommitted(t *testing.T) {
	required := os.Getenv("ANNEX_CONSOLE_CHECK") != ""
	skip := func(why string) {
		if required {
			t.Fatal(why)
		}
		t.Skip(why + "; make console-check builds the page and compares")
	}
	if _, err := exec.LookPath("node"); err != nil {
		skip("there is no node")
	}
	if _, err := os.Stat("web/node_modules/esbuild"); err != nil {
		skip("the packages of the page are not installed")
	}
	out := filepath.Join(t.TempDir(), "dist")
	build := exec.CommandContext(t.Context(), "node", "build.mjs", out)
	build.Dir = "web"
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("the build failed: %v\n%s", err, said)
	}
	made, err := os.ReadDir(out)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := os.ReadDir("dist")
	if err != nil {
		t.Fatal(err)
	}
	if len(made) != len(kept) {
		t.Errorf("a build makes %v, and console/dist has %v", made, kept)
	}
	for _, f := range made {
		want, err := os.ReadFile(filepath.Join(out, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join("dist", f.Name())); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not what its source gives (%v): run make console", f.Name(), err)
		}
	}
}
