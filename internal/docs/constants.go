package docs

import (
	"fmt"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
)

// durations are the constants of package time that lengths are written with.
var durations = map[string]time.Duration{
	"Nanosecond": time.Nanosecond, "Microsecond": time.Microsecond, "Millisecond": time.Millisecond,
	"Second": time.Second, "Minute": time.Minute, "Hour": time.Hour,
}

// constants finds the values of constants in source code, by names such as
// fetch.maxDiscovery: the end of the package's path, as much of it as no other has,
// and the constant.
// Fetch.DefaultTiming.Interval is a field of what a function returns, if it
// returns a literal and nothing else. What is a package's whole path names that package alone.
// Src/feed.ts.longestLine is a constant of a file of the console's page.
type constants struct {
	repository fs.FS
	folders    []string // that hold Go files
	parsed     map[string]*source
}

// source is what one package declares.
type source struct {
	consts map[string]ast.Expr
	funcs  map[string]*ast.FuncDecl
	// imports are folders by the names that the package knows them by.
	imports map[string]string
}

// newConstants looks for packages in trees of a repository.
func newConstants(repository fs.FS, trees ...string) (*constants, error) {
	c := &constants{repository: repository, parsed: map[string]*source{}}
	for _, tree := range trees {
		err := fs.WalkDir(repository, tree, func(name string, d fs.DirEntry, err error) error {
			if folder := path.Dir(name); err == nil && isSource(name) && !slices.Contains(c.folders, folder) {
				c.folders = append(c.folders, folder)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return c, nil
}

func isSource(name string) bool {
	return strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go")
}

// scriptName matches the name of a constant of a TypeScript file.
var scriptName = regexp.MustCompile(`^(.+\.tsx?)\.(\w+)$`)

// value is that of a name.
func (c *constants) value(name string) (constant.Value, error) {
	if m := scriptName.FindStringSubmatch(name); m != nil {
		return c.scriptConstant("console/web/"+m[1], m[2])
	}
	parts := strings.Split(name, ".")
	if len(parts) < 2 || len(parts) > 3 {
		return nil, fmt.Errorf("%q is not of the form package.constant or package.Function.Field", name)
	}
	var found []string
	for _, folder := range c.folders {
		if strings.HasSuffix("/"+folder, "/"+parts[0]) {
			found = append(found, folder)
		}
	}
	if slices.Contains(found, parts[0]) {
		found = []string{parts[0]}
	}
	if len(found) != 1 {
		return nil, fmt.Errorf("%d packages are called %s", len(found), parts[0])
	}
	s, err := c.load(found[0])
	if err != nil {
		return nil, err
	}
	if len(parts) == 2 {
		return c.constant(s, parts[1])
	}
	return c.field(s, parts[1], parts[2])
}

// scriptConstant reads a constant of a TypeScript file, whose numbers and operators are written as
// Go's.
func (c *constants) scriptConstant(file, name string) (constant.Value, error) {
	content, err := fs.ReadFile(c.repository, file)
	if err != nil {
		return nil, err
	}
	m := regexp.MustCompile(`(?m)^(?:export )?const ` + regexp.QuoteMeta(name) + ` = ([^;]+);`).FindSubmatch(content)
	if m == nil {
		return nil, fmt.Errorf("there is no constant %s in %s", name, file)
	}
	expr, err := parser.ParseExpr(string(m[1]))
	if err != nil {
		return nil, fmt.Errorf("%s of %s: %w", name, file, err)
	}
	return c.eval(&source{}, expr)
}

// load reads the declarations of a package.
func (c *constants) load(folder string) (*source, error) {
	if s := c.parsed[folder]; s != nil {
		return s, nil
	}
	entries, err := fs.ReadDir(c.repository, folder)
	if err != nil {
		return nil, err
	}
	s := &source{consts: map[string]ast.Expr{}, funcs: map[string]*ast.FuncDecl{}, imports: map[string]string{}}
	for _, e := range entries {
		if !isSource(e.Name()) {
			continue
		}
		name := path.Join(folder, e.Name())
		content, err := fs.ReadFile(c.repository, name)
		if err != nil {
			return nil, err
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, content, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		s.add(file, c.folders)
	}
	c.parsed[folder] = s
	return s, nil
}

func (s *source) add(file *ast.File, folders []string) {
	for _, i := range file.Imports {
		imported := strings.Trim(i.Path.Value, `"`)
		for _, folder := range folders {
			if strings.HasSuffix(imported, "/"+folder) {
				s.imports[path.Base(folder)] = folder
			}
		}
	}
	for _, d := range file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil {
				s.funcs[d.Name.Name] = d
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				v, ok := spec.(*ast.ValueSpec)
				if d.Tok != token.CONST || !ok || len(v.Values) != len(v.Names) {
					continue
				}
				for i, name := range v.Names {
					s.consts[name.Name] = v.Values[i]
				}
			}
		}
	}
}

func (c *constants) constant(s *source, name string) (constant.Value, error) {
	expr := s.consts[name]
	if expr == nil {
		return nil, fmt.Errorf("there is no constant %s", name)
	}
	return c.eval(s, expr)
}

func (c *constants) field(s *source, function, field string) (constant.Value, error) {
	f := s.funcs[function]
	if f == nil || f.Body == nil || len(f.Body.List) != 1 {
		return nil, fmt.Errorf("there is no function %s that returns a literal", function)
	}
	if r, ok := f.Body.List[0].(*ast.ReturnStmt); ok && len(r.Results) == 1 {
		if literal, ok := r.Results[0].(*ast.CompositeLit); ok {
			for _, e := range literal.Elts {
				if kv, ok := e.(*ast.KeyValueExpr); ok && isNamed(kv.Key, field) {
					return c.eval(s, kv.Value)
				}
			}
		}
	}
	return nil, fmt.Errorf("what %s returns has no field %s", function, field)
}

func isNamed(e ast.Expr, name string) bool {
	id, ok := e.(*ast.Ident)
	return ok && id.Name == name
}

// eval works out an expression of numbers, constants and conversions.
func (c *constants) eval(s *source, e ast.Expr) (constant.Value, error) {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind == token.INT || e.Kind == token.FLOAT {
			return constant.MakeFromLiteral(e.Value, e.Kind, 0), nil
		}
	case *ast.ParenExpr:
		return c.eval(s, e.X)
	case *ast.Ident:
		return c.constant(s, e.Name)
	case *ast.CallExpr: // a conversion
		if len(e.Args) == 1 {
			return c.eval(s, e.Args[0])
		}
	case *ast.SelectorExpr:
		id, ok := e.X.(*ast.Ident)
		if !ok {
			break
		}
		if d, ok := durations[e.Sel.Name]; ok && id.Name == "time" {
			return constant.MakeInt64(int64(d)), nil
		}
		if folder, ok := s.imports[id.Name]; ok {
			other, err := c.load(folder)
			if err != nil {
				return nil, err
			}
			return c.constant(other, e.Sel.Name)
		}
	case *ast.BinaryExpr:
		x, err := c.eval(s, e.X)
		if err != nil {
			return nil, err
		}
		y, err := c.eval(s, e.Y)
		if err != nil {
			return nil, err
		}
		return binary(x, e.Op, y)
	}
	return nil, fmt.Errorf("%T is not understood: write the constant with numbers and other constants", e)
}

func binary(x constant.Value, op token.Token, y constant.Value) (constant.Value, error) {
	switch op {
	case token.ADD, token.SUB, token.MUL:
		return constant.BinaryOp(x, op, y), nil
	case token.QUO:
		if constant.Sign(y) == 0 {
			return nil, fmt.Errorf("division by zero")
		}
		if x.Kind() == constant.Int && y.Kind() == constant.Int {
			op = token.QUO_ASSIGN // of integers
		}
		return constant.BinaryOp(x, op, y), nil
	case token.SHL, token.SHR:
		if n, ok := constant.Uint64Val(y); ok && n < 64 {
			return constant.Shift(x, op, uint(n)), nil
		}
	}
	return nil, fmt.Errorf("the operator %s is not understood", op)
}
