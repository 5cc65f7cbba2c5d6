package architecture

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"strings"
)

// maxLines leaves a little over the 450 that a file should have at most.
const maxLines = 500

// initAllowed are the packages that may have an init function, and why.
var initAllowed = map[string]string{
	"kubeapiserver/version": "the build's version stands before any other package reads it",
}

var undone = regexp.MustCompile(`\b(TODO|FIXME|XXX|HACK)\b`)

// vague are names that say nothing of what a package gives.
var vague = map[string]bool{
	"util": true, "utils": true, "helper": true, "helpers": true,
	"manager": true, "common": true, "misc": true, "shared": true,
}

// source returns one sentence for each rule that a file breaks; path is
// relative to the module.
func source(path string, content []byte) []string {
	folder, name := "", path
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		folder, name = path[:i], path[i+1:]
	}
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, path, content, parser.ParseComments)
	if err != nil {
		return []string{err.Error()}
	}
	var broken []string
	isTest := strings.HasSuffix(name, "_test.go")
	if n := bytes.Count(content, []byte("\n")); n > maxLines && !isTest {
		broken = append(broken, fmt.Sprintf("%s has %d lines, at most %d", path, n, maxLines))
	}
	if vague[strings.TrimSuffix(file.Name.Name, "_test")] {
		broken = append(broken, fmt.Sprintf("%s: a package is named for what it gives, not %q", path, file.Name.Name))
	}
	for _, d := range file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if ok && f.Recv == nil && f.Name.Name == "init" && !isTest && initAllowed[folder] == "" {
			broken = append(broken, fmt.Sprintf("%s: an init function", files.Position(f.Pos())))
		}
	}
	switch {
	case folder == "aggregator/internal/catalog" && !isTest:
		broken = append(broken, clock(files, file, func(name string) bool { return !timeless[name] })...)
	case folder == "diagnosis" && !isTest:
		broken = append(broken, clock(files, file, func(name string) bool { return clocks[name] })...)
	}
	for _, group := range file.Comments {
		for _, c := range group.List {
			if undone.MatchString(c.Text) {
				broken = append(broken, fmt.Sprintf("%s: undone work: %s", files.Position(c.Pos()), c.Text))
			}
		}
	}
	return broken
}

// timeless are the names of package time that know no clock.
var timeless = map[string]bool{
	"Duration": true, "ParseDuration": true,
	"Nanosecond": true, "Microsecond": true, "Millisecond": true, "Second": true, "Minute": true, "Hour": true,
}

// clocks are the names of package time that look at a clock.
var clocks = map[string]bool{
	"Now": true, "Since": true, "Until": true, "After": true, "AfterFunc": true,
	"Sleep": true, "Tick": true, "NewTimer": true, "NewTicker": true,
}

// clock returns a sentence for each use of what is refused of package time.
func clock(files *token.FileSet, file *ast.File, refused func(name string) bool) []string {
	var broken []string
	ast.Inspect(file, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			if p, ok := s.X.(*ast.Ident); ok && p.Name == "time" && p.Obj == nil && refused(s.Sel.Name) {
				broken = append(broken, fmt.Sprintf("%s: time.%s: %s knows no clock", files.Position(s.Pos()), s.Sel.Name, file.Name.Name))
			}
		}
		return true
	})
	return broken
}
