package upstream

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
	controlplane "k8s.io/kubernetes/pkg/controlplane/apiserver"

	"github.com/annex-api/annex/kubeapiserver/internal/priorities"
)

// both runs checks until one fails.
func both(checks ...func(*Source) error) func(*Source) error {
	return func(s *Source) error {
		for _, check := range checks {
			if err := check(s); err != nil {
				return err
			}
		}
		return nil
	}
}

var linkname = regexp.MustCompile(`(?m)^//go:linkname \w+ (\S+)\.(\w+)$`)

// linknamed checks that each variable which our version package sets is a string
// variable of upstream's.
func linknamed(s *Source) error {
	content, err := os.ReadFile(filepath.Join(root, versionOwn))
	if err != nil {
		return err
	}
	names := linkname.FindAllStringSubmatch(string(content), -1)
	if len(names) == 0 {
		return fmt.Errorf("%s links no variable any more", versionOwn)
	}
	for _, n := range names {
		if pkg := path.Join(s.Module, path.Dir(s.Path)); n[1] != pkg {
			return fmt.Errorf("%s is not of %s", n[0], pkg)
		}
		if !s.stringVariable(n[2]) {
			return fmt.Errorf("there is no string variable %s", n[2])
		}
	}
	return nil
}

// stringVariable says whether the file declares a string variable of that name.
func (s *Source) stringVariable(name string) bool {
	for _, d := range s.syntax.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.VAR {
			continue
		}
		for _, spec := range g.Specs {
			v := spec.(*ast.ValueSpec)
			i := slices.IndexFunc(v.Names, func(n *ast.Ident) bool { return n.Name == name })
			if i < 0 {
				continue
			}
			if t, ok := v.Type.(*ast.Ident); ok {
				return t.Name == "string"
			}
			l, ok := v.Values[i].(*ast.BasicLit)
			return ok && l.Kind == token.STRING
		}
	}
	return false
}

// plugins checks that launch imports what the main package does.
func plugins(s *Source) error {
	set := token.NewFileSet()
	syntax, err := parser.ParseFile(set, filepath.Join(root, pluginsOwn), nil, parser.ImportsOnly)
	if err != nil {
		return err
	}
	want, got := s.BlankImports(), (&Source{syntax: syntax, set: set}).BlankImports()
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(want, got) {
		return fmt.Errorf("it imports for their effect %q, not %q", want, got)
	}
	return nil
}

// key checks that an accessor asks for a key, and takes what it gets for a type.
func key(file, accessor, name, typ, with string) assumption {
	return has("", nil, File{apiserver, file}, both(
		func(s *Source) error {
			f, err := s.Func(accessor)
			if err != nil {
				return err
			}
			var asked []string
			ast.Inspect(f, func(n ast.Node) bool {
				if a, ok := n.(*ast.TypeAssertExpr); ok {
					asked = append(asked, s.Text(a))
				}
				return true
			})
			if want := fmt.Sprintf("ctx.Value(%s).(%s)", name, typ); len(asked) != 1 || asked[0] != want {
				return fmt.Errorf("%s asks for %q, not for %s", accessor, asked, want)
			}
			return nil
		},
		func(s *Source) error {
			f, err := s.Func(with)
			if err != nil {
				return err
			}
			if calls := s.Text(f); !regexp.MustCompile(`\bWithValue\((parent|ctx), ` + name + `, `).MatchString(calls) {
				return fmt.Errorf("%s does not store under %s", with, name)
			}
			return nil
		}),
		change{old: fmt.Sprintf("ctx.Value(%s).(%s)", name, typ), new: fmt.Sprintf("ctx.Value(%s).(*struct{ %s })", name, strings.TrimPrefix(typ, "*"))},
		change{old: fmt.Sprintf(", %s, ", name), new: ", otherKey, "})
}

// loggingLevel checks the file's name and the level, against ours too.
func loggingLevel(s *Source) error {
	if path.Base(s.Path) != path.Base(loggingOwn) {
		return fmt.Errorf("our file has another name, %s", loggingOwn)
	}
	set := token.NewFileSet()
	syntax, err := parser.ParseFile(set, filepath.Join(root, loggingOwn), nil, 0)
	if err != nil {
		return err
	}
	own := &Source{syntax: syntax, set: set}
	level, err := own.Value("logLevel")
	if err != nil {
		return err
	}
	return both(is("withLoggingLevel", own.Text(level)), contains("WithLogging", "klog.V(withLoggingLevel).Enabled()"))(s)
}

// samePriorities compares the table with ours.
func samePriorities(s *Source) error {
	v, err := s.Value("apiVersionPriorities")
	if err != nil {
		return err
	}
	merge, ok := v.(*ast.CallExpr)
	if !ok || len(merge.Args) != 2 || s.Text(merge.Args[0]) != "controlplaneapiserver.DefaultGenericAPIServicePriorities()" {
		return fmt.Errorf("the table is no extension of the generic one any more")
	}
	table, ok := merge.Args[1].(*ast.CompositeLit)
	if !ok {
		return fmt.Errorf("the table is no literal any more")
	}
	want := controlplane.DefaultGenericAPIServicePriorities()
	for _, e := range table.Elts {
		pair := e.(*ast.KeyValueExpr)
		gv, p := fields(pair.Key), fields(pair.Value)
		want[schema.GroupVersion{Group: gv["Group"], Version: gv["Version"]}] = controlplane.APIServicePriority{
			Group: number(p["Group"]), Version: number(p["Version"]),
		}
	}
	got := priorities.All()
	for gv, p := range want {
		if got[gv] != p {
			return fmt.Errorf("%s has the priorities %v, ours %v", gv, p, got[gv])
		}
	}
	for gv := range got {
		if _, ok := want[gv]; !ok {
			return fmt.Errorf("%s is not in it any more", gv)
		}
	}
	return nil
}

// fields of a composite literal whose values are literals.
func fields(e ast.Expr) map[string]string {
	all := map[string]string{}
	if c, ok := e.(*ast.CompositeLit); ok {
		for _, e := range c.Elts {
			if kv, ok := e.(*ast.KeyValueExpr); ok {
				if l, ok := kv.Value.(*ast.BasicLit); ok {
					all[fmt.Sprint(kv.Key)] = strings.Trim(l.Value, `"`)
				}
			}
		}
	}
	return all
}

func number(s string) int32 {
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil {
		return -1
	}
	return int32(n)
}

// metric checks that a file makes a metric of these names, of the lowest stability.
func metric(file File, namespace, subsystem, name string) assumption {
	return has("", nil, file, func(s *Source) error {
		found := false
		ast.Inspect(s.syntax, func(n ast.Node) bool {
			if c, ok := n.(*ast.CompositeLit); ok {
				f := fields(c)
				found = found || f["Name"] == name && f["Namespace"] == namespace && f["Subsystem"] == subsystem &&
					strings.Contains(s.Text(c), "StabilityLevel: metrics.ALPHA")
			}
			return true
		})
		if !found {
			return fmt.Errorf("there is no metric %s_%s_%s of stability ALPHA", namespace, subsystem, name)
		}
		return nil
	}, change{old: `"` + name + `"`, new: `"` + name + `_new"`})
}

// message checks that etcd has a text.
func message(file, text string) assumption {
	return has("", nil, File{etcd, file}, contains("", strconv.Quote(text)), change{old: text, new: "it " + text})
}
