package architecture

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Projects of the SDK are built where their developers work: what they import has the types of
// every such system, and of one whose int has 32 bits. Only this module and the standard library are
// looked at, by their types: to compile all that they depend on takes minutes for each system.
func TestProjectsBuildOnOtherSystems(t *testing.T) {
	if testing.Short() {
		t.Skip("it asks go list for four systems, in which the race detector finds nothing")
	}
	here, count := typeErrors(t, "linux", "amd64")
	if count < 30 {
		t.Fatalf("only %d packages of this module were looked at", count)
	}
	for _, system := range []string{"linux/386", "darwin/arm64", "windows/amd64"} {
		goos, arch, _ := strings.Cut(system, "/")
		there, _ := typeErrors(t, goos, arch)
		for _, err := range there {
			// The packages of others are not there, which leads to errors on all systems.
			if !slices.Contains(here, err) {
				t.Errorf("%s: %s", system, err)
			}
		}
	}
}

// typeErrors are those of the packages that a project imports, and of what they import from this module.
func typeErrors(t *testing.T, goos, arch string) (found []string, count int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-json=ImportPath,Dir,GoFiles",
		"./extension", "./extension/extensiontest", "./extension/extensiontest/conformance", "./extension/storage/drivers")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GOOS="+goos, "GOARCH="+arch, "CGO_ENABLED=0")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list for %s/%s: %v", goos, arch, err)
	}
	checked := imported{"unsafe": types.Unsafe}
	for d := json.NewDecoder(bytes.NewReader(out)); ; { // each after what it imports
		var p struct {
			ImportPath, Dir string
			GoFiles         []string
		}
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return found, count
		} else if err != nil {
			t.Fatal(err)
		}
		own := within(p.ImportPath, module)
		if !own && p.ImportPath != "syscall" && p.ImportPath != "math" {
			continue
		}
		files := token.NewFileSet()
		var parsed []*ast.File
		for _, name := range p.GoFiles {
			f, err := parser.ParseFile(files, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			parsed = append(parsed, f)
		}
		config := types.Config{
			Importer:         checked,
			Sizes:            types.SizesFor("gc", arch),
			IgnoreFuncBodies: !own,
			Error: func(err error) {
				var e types.Error
				if own && errors.As(err, &e) && !strings.HasPrefix(e.Msg, "could not import ") {
					found = append(found, p.ImportPath+"/"+filepath.Base(files.Position(e.Pos).Filename)+": "+e.Msg)
				}
			},
		}
		// Errors are collected above.
		if made, _ := config.Check(p.ImportPath, files, parsed, nil); made != nil {
			checked[p.ImportPath] = made
		}
		if own {
			count++
		}
	}
}

// imported are packages that were looked at before.
type imported map[string]*types.Package

func (i imported) Import(path string) (*types.Package, error) {
	if p, ok := i[path]; ok {
		return p, nil
	}
	return nil, errors.New("not looked at")
}
