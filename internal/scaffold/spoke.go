package scaffold

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"slices"
	"strconv"
	"strings"
)

// copySpec declares the spec of a kind for another version, as it is declared in the
// package of the hub. Types of that package become its types, so that Go converts one
// spec to the other. It gives the imports that the file with it needs, the hub's too.
func copySpec(sources map[string][]byte, kind, hubPath, hub string) (text string, imports []string, err error) {
	var (
		files    = token.NewFileSet()
		declared = map[string]bool{}
		file     *ast.File
		source   []byte
		decl     *ast.GenDecl
	)
	for name, text := range sources {
		parsed, err := parser.ParseFile(files, name, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return "", nil, fmt.Errorf("the types of version %s: %w", hub, err)
		}
		for _, d := range parsed.Decls { // a declaration at a time, for its comment
			types, ok := d.(*ast.GenDecl)
			if !ok || types.Tok != token.TYPE {
				continue
			}
			for _, s := range types.Specs {
				if name := s.(*ast.TypeSpec).Name.Name; name == kind+"Spec" && len(types.Specs) == 1 {
					file, source, decl = parsed, text, types
				} else {
					declared[name] = true
				}
			}
		}
	}
	if decl == nil {
		return "", nil, fmt.Errorf("the package of version %s declares no type %sSpec by itself: a version beside it cannot be made of it", hub, kind)
	}
	imports = []string{`metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"`, strconv.Quote(hubPath)}
	var places []int // where the name of the hub's package goes
	begin, end := decl.Pos(), decl.End()
	if decl.Doc != nil {
		begin = decl.Doc.Pos()
	}
	offset := func(p token.Pos) int { return files.Position(p).Offset }
	var visit func(n ast.Node) bool
	visit = func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Field:
			ast.Inspect(n.Type, visit) // and not the names of fields
			return false
		case *ast.SelectorExpr:
			if from, ok := n.X.(*ast.Ident); ok {
				imports = addImport(imports, file, from.Name)
			}
			return false
		case *ast.Ident:
			if declared[n.Name] {
				places = append(places, offset(n.Pos()))
			}
		}
		return true
	}
	ast.Inspect(decl.Specs[0].(*ast.TypeSpec).Type, visit)
	slices.Sort(places)
	var b strings.Builder
	at := offset(begin)
	for _, place := range places {
		b.Write(source[at:place])
		b.WriteString(hub + ".")
		at = place
	}
	b.Write(source[at:offset(end)])
	return b.String(), imports, nil
}

// addImport adds the import by which a file knows a package.
func addImport(imports []string, file *ast.File, name string) []string {
	for _, i := range file.Imports {
		from, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			continue
		}
		line := i.Path.Value
		known := path.Base(from)
		if i.Name != nil {
			known, line = i.Name.Name, i.Name.Name+" "+line
		}
		if known == name && !slices.Contains(imports, line) {
			return append(imports, line)
		}
	}
	return imports
}
