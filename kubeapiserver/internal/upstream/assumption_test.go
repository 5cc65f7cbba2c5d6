package upstream

import (
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// update writes what upstream says now into testdata and into the table of
// docs/develop/upgrading-kubernetes.md.
var update = flag.Bool("update", false, "take upstream as it is now for what is relied on")

// root of the repository.
const root = "../../.."

// assumption is something about upstream's inside that this project relies on and
// no compiler checks.
type assumption struct {
	// says what is relied on, ours where, as paths in this repository.
	says string
	ours []string
	// files are what is read.
	files []File
	check func(Tree) error
	// breaks are changes of upstream that the check must find.
	breaks []change
}

// change replaces a text in a file of upstream once.
type change struct {
	file     File
	old, new string
}

const (
	apiserver  = "k8s.io/apiserver"
	kubernetes = "k8s.io/kubernetes"
	aggregator = "k8s.io/kube-aggregator"
	base       = "k8s.io/component-base"
	openAPI    = "k8s.io/kube-openapi"
	etcd       = "go.etcd.io/etcd/server/v3"
)

// modules remembers where modules lie.
var modules = func() Tree {
	known := map[string]string{}
	return func(module string) (string, error) {
		if dir, ok := known[module]; ok {
			return dir, nil
		}
		dir, err := Modules(module)
		if err == nil {
			known[module] = dir
		}
		return dir, err
	}
}()

// TestUpstreamIsAsAssumed fails where upstream has moved. docs/develop/upgrading-kubernetes.md
// says what to do then.
func TestUpstreamIsAsAssumed(t *testing.T) {
	if *update {
		writeDigests(t)
		writeOutlines(t)
	}
	for _, a := range assumptions {
		if err := a.check(modules); err != nil {
			t.Errorf("%v\nIt is relied on in %s: %s", err, strings.Join(a.ours, ", "), a.says)
		}
	}
}

// TestChecksSeeAChange changes a copy of upstream's files and runs the checks on it.
func TestChecksSeeAChange(t *testing.T) {
	for _, a := range assumptions {
		breaks := a.breaks
		if len(breaks) == 0 {
			t.Errorf("no change is known that the check for %q finds", a.says)
		}
		for _, b := range breaks {
			t.Run(fmt.Sprintf("%s in %s", strings.TrimSpace(b.old), b.file), func(t *testing.T) {
				copied := t.TempDir()
				tree := func(module string) (string, error) { return filepath.Join(copied, module), nil }
				for _, f := range a.files {
					content := read(t, modules, f)
					if f == b.file {
						if !strings.Contains(content, b.old) {
							t.Fatalf("%s does not contain %q", f, b.old)
						}
						content = strings.Replace(content, b.old, b.new, 1)
					}
					path := filepath.Join(copied, f.Module, f.Path)
					if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				err := a.check(tree)
				if err == nil || !strings.Contains(err.Error(), b.file.String()) {
					t.Errorf("after %q became %q the check says %v; it must name %s", b.old, b.new, err, b.file)
				}
			})
		}
	}
}

// What rests on an assumption is where the list says.
func TestAssumptionsNameOurFiles(t *testing.T) {
	for _, a := range assumptions {
		for _, path := range a.ours {
			if _, err := os.Stat(filepath.Join(root, path)); err != nil {
				t.Errorf("%s: %v", a.says, err)
			}
		}
	}
}

func read(t *testing.T, tree Tree, f File) string {
	t.Helper()
	dir, err := tree(f.Module)
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(filepath.Join(dir, f.Path))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// unchanged assumes that functions, or whole files where none is named, are as they
// were when somebody last read them: what they do is done again here.
func unchanged(says string, ours []string, parts ...part) assumption {
	a := assumption{says: says, ours: ours}
	for _, p := range parts {
		a.files = append(a.files, p.file)
		for _, name := range p.names() {
			digested = append(digested, declaration{p.file, name})
		}
		a.breaks = append(a.breaks, p.breaks()...)
	}
	a.check = func(tree Tree) error {
		var errs []error
		for _, p := range parts {
			s, err := tree.Parse(p.file)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			for _, name := range p.names() {
				digest, err := s.Digest(name)
				if err == nil && digest != digests()[declaration{p.file, name}] {
					err = fmt.Errorf("%s has changed since it was read", declaration{p.file, name})
				}
				errs = append(errs, err)
			}
		}
		return errors.Join(errs...)
	}
	return a
}

// part is a file, or functions in it.
type part struct {
	file      File
	functions []string
}

func (p part) names() []string {
	if len(p.functions) == 0 {
		return []string{""}
	}
	return p.functions
}

// breaks has each function do one thing more, or the file one more function.
func (p part) breaks() []change {
	if len(p.functions) == 0 {
		return []change{{p.file, "\nfunc ", "\nfunc another() {}\n\nfunc "}}
	}
	s, err := modules.Parse(p.file)
	if err != nil {
		return nil // TestUpstreamIsAsAssumed says so
	}
	var all []change
	for _, name := range p.functions {
		f, err := s.Func(name)
		if err != nil {
			continue
		}
		dir, err := modules(p.file.Module)
		if err != nil {
			continue
		}
		content, err := os.ReadFile(filepath.Join(dir, p.file.Path))
		if err != nil {
			continue
		}
		head := string(content[s.offset(f.Pos()) : s.offset(f.Body.Lbrace)+1])
		all = append(all, change{p.file, head, head + " println();"})
	}
	return all
}

// declaration is a function, or, without a name, a whole file.
type declaration struct {
	file File
	name string
}

func (d declaration) String() string { return strings.TrimSpace(d.file.String() + " " + d.name) }

// digested are all declarations that are assumed to be unchanged.
var digested []declaration

const digestsFile = "testdata/digests.txt"

// digests are those of the last reading.
func digests() map[declaration]string {
	content, err := os.ReadFile(digestsFile)
	if err != nil {
		return nil
	}
	known := map[declaration]string{}
	for line := range strings.Lines(string(content)) {
		f := strings.Fields(line)
		if len(f) < 3 {
			continue
		}
		d := declaration{file: File{f[1], f[2]}}
		if len(f) > 3 {
			d.name = f[3]
		}
		known[d] = f[0]
	}
	return known
}

func writeDigests(t *testing.T) {
	t.Helper()
	lines := map[string]bool{}
	for _, d := range digested {
		s, err := modules.Parse(d.file)
		if err != nil {
			t.Error(err)
			continue
		}
		digest, err := s.Digest(d.name)
		if err != nil {
			t.Error(err)
			continue
		}
		lines[strings.TrimSpace(fmt.Sprintf("%s %s %s %s", digest, d.file.Module, d.file.Path, d.name))] = true
	}
	sorted := slices.SortedFunc(maps.Keys(lines), func(a, b string) int { return strings.Compare(a[17:], b[17:]) })
	if err := os.WriteFile(digestsFile, []byte(strings.Join(sorted, "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
}

// outline assumes that a function calls the same in the same order.
func outline(says string, ours []string, file File, function string, breaks ...change) assumption {
	golden := "testdata/" + strings.TrimPrefix(function, "completedConfig.") + ".txt"
	outlines[golden] = declaration{file, function}
	return assumption{says: says, ours: ours, files: []File{file}, breaks: breaks, check: func(tree Tree) error {
		s, err := tree.Parse(file)
		if err != nil {
			return err
		}
		calls, err := s.Calls(function)
		if err != nil {
			return err
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			return err
		}
		if calls != string(want) {
			return fmt.Errorf("%s: %s calls something else than %s says, beginning with\n%s", file, function, golden, firstDifference(string(want), calls))
		}
		return nil
	}}
}

// outlines are the golden files, and what they are of.
var outlines = map[string]declaration{}

func writeOutlines(t *testing.T) {
	t.Helper()
	for golden, d := range outlines {
		s, err := modules.Parse(d.file)
		if err != nil {
			t.Error(err)
			continue
		}
		calls, err := s.Calls(d.name)
		if err != nil {
			t.Error(err)
			continue
		}
		if err := os.WriteFile(golden, []byte(calls), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func firstDifference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range min(len(w), len(g)) {
		if w[i] != g[i] {
			return "\t" + strings.TrimSpace(g[i]) + "\n\tin place of\n\t" + strings.TrimSpace(w[i])
		}
	}
	return "\tmore or fewer lines at its end"
}

// has assumes something of one file.
func has(says string, ours []string, file File, check func(*Source) error, breaks ...change) assumption {
	for i := range breaks {
		breaks[i].file = file
	}
	return assumption{says: says, ours: ours, files: []File{file}, breaks: breaks, check: func(tree Tree) error {
		s, err := tree.Parse(file)
		if err != nil {
			return err
		}
		if err := check(s); err != nil {
			if strings.Contains(err.Error(), file.String()) {
				return err
			}
			return fmt.Errorf("%s: %w", file, err)
		}
		return nil
	}}
}

// all assumes several things.
func all(says string, ours []string, several ...assumption) assumption {
	a := assumption{says: says, ours: ours}
	var checks []func(Tree) error
	for _, s := range several {
		a.files, a.breaks, checks = append(a.files, s.files...), append(a.breaks, s.breaks...), append(checks, s.check)
	}
	a.check = func(tree Tree) error {
		var errs []error
		for _, check := range checks {
			errs = append(errs, check(tree))
		}
		return errors.Join(errs...)
	}
	return a
}

// is compares the text of a value.
func is(name, want string) func(*Source) error {
	return func(s *Source) error {
		v, err := s.Value(name)
		if err != nil {
			return err
		}
		if v == nil || s.Text(v) != want {
			return fmt.Errorf("%s is not %s any more", name, want)
		}
		return nil
	}
}

// contains looks for texts in a function; in the whole file where the name is empty.
func contains(function string, want ...string) func(*Source) error {
	return func(s *Source) error {
		var n ast.Node = s.syntax
		if function != "" {
			f, err := s.Func(function)
			if err != nil {
				return err
			}
			n = f
		}
		text := s.Text(n)
		for _, w := range want {
			if !strings.Contains(text, w) {
				return fmt.Errorf("%s has no %q any more", function, w)
			}
		}
		return nil
	}
}
