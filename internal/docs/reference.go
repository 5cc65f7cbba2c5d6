package docs

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/doc"
	"go/doc/comment"
	"go/parser"
	"go/printer"
	"go/token"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
)

// chapter is a part of the reference: what the files of a package declare.
type chapter struct {
	title, folder string
	files         []string // all of the folder's where there is none
}

// chapters are those of the reference of the SDK, in order.
var chapters = []chapter{
	{"A stored kind", "extension", []string{"resource.go"}},
	{"Subresources", "extension", []string{"subresource.go"}},
	{"Versions", "extension", []string{"versions.go"}},
	{"Kinds without a Go type", "extension", []string{"schemaonly.go"}},
	{"Computed kinds", "extension", []string{"computed.go"}},
	{"Projections", "extension", []string{"projection.go"}},
	{"Controllers", "extension", []string{"controller.go"}},
	{"A server", "extension", []string{"config.go", "audit.go", "server.go", "main.go"}},
	{"In hooks", "extension", []string{"caller.go"}},
	{"On a server of somebody else's", "extension/embed", nil},
	{"Tests", "extension/extensiontest", nil},
	{"The conformance kit", "extension/extensiontest/conformance", nil},
	{"Storage", "extension/storage", nil},
}

// reference is the reference of the SDK in Markdown, made of the comments of its exported
// declarations. help is what the flag --help of a server prints.
func reference(repository fs.FS, help string) (string, error) {
	var out strings.Builder
	out.WriteString("# Reference of the SDK\n\n" +
		"Every option. It is made of the code's comments: `go test ./internal/docs -run Reference -update` writes it anew.\n\n" +
		"[sdk.md](sdk.md) has the way and the reasons.\n")
	packages := map[string]*doc.Package{}
	files := token.NewFileSet()
	for _, c := range slices.Concat(chapters, rest()) {
		p := packages[c.folder]
		if p == nil {
			var err error
			if p, err = parsed(repository, files, c.folder); err != nil {
				return "", err
			}
			packages[c.folder] = p
		}
		w := &writer{out: &out, files: files, here: func(at token.Pos) bool {
			file := files.Position(at).Filename
			if len(c.files) > 0 && !slices.Contains(c.files, path.Base(file)) {
				return false
			}
			return len(c.files) > 0 || !inChapter(c.folder, path.Base(file))
		}}
		w.chapter(c.title, p)
	}
	fmt.Fprintf(&out, "\n## Flags\n\nA program whose `main` calls `extension.Main` has these.\n\n```\n%s\n```\n", strings.TrimSpace(help))
	return out.String(), nil
}

// rest is what no chapter names: it comes last.
func rest() []chapter { return []chapter{{"Further", "extension", nil}} }

func inChapter(folder, file string) bool {
	return slices.ContainsFunc(chapters, func(c chapter) bool { return c.folder == folder && slices.Contains(c.files, file) })
}

// parsed reads a package without its tests.
func parsed(repository fs.FS, files *token.FileSet, folder string) (*doc.Package, error) {
	names, err := fs.Glob(repository, folder+"/*.go")
	if err != nil {
		return nil, err
	}
	var trees []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		text, err := fs.ReadFile(repository, name)
		if err != nil {
			return nil, err
		}
		tree, err := parser.ParseFile(files, name, text, parser.ParseComments)
		if err != nil {
			return nil, err
		}
		trees = append(trees, tree)
	}
	if len(trees) == 0 {
		return nil, fmt.Errorf("%s has no files", folder)
	}
	return doc.NewFromFiles(files, trees, folder)
}

// writer writes those declarations of a package that are here.
type writer struct {
	out   *strings.Builder
	files *token.FileSet
	here  func(token.Pos) bool
}

func (w *writer) chapter(title string, p *doc.Package) {
	var types []*doc.Type
	var functions []*doc.Func
	values := slices.Concat(p.Consts, p.Vars)
	for _, t := range p.Types {
		if w.here(t.Decl.Pos()) {
			types = append(types, t)
		}
		functions = append(functions, t.Funcs...)
		values = append(append(values, t.Consts...), t.Vars...)
	}
	functions = append(functions, p.Funcs...)
	functions = slices.DeleteFunc(functions, func(f *doc.Func) bool { return !w.here(f.Decl.Pos()) })
	values = slices.DeleteFunc(values, func(v *doc.Value) bool { return !w.here(v.Decl.Pos()) })
	if len(types)+len(functions)+len(values) == 0 {
		return
	}
	slices.SortFunc(types, func(a, b *doc.Type) int { return int(a.Decl.Pos() - b.Decl.Pos()) })
	slices.SortFunc(functions, func(a, b *doc.Func) int { return int(a.Decl.Pos() - b.Decl.Pos()) })
	slices.SortFunc(values, func(a, b *doc.Value) int { return int(a.Decl.Pos() - b.Decl.Pos()) })
	fmt.Fprintf(w.out, "\n## %s\n", title)
	for _, t := range types {
		w.declared(t)
	}
	for _, f := range functions {
		w.function(f)
	}
	for _, v := range values {
		fmt.Fprintf(w.out, "\n```go\n%s\n```\n\n%s\n", w.code(v.Decl), paragraphs(v.Doc))
	}
}

func (w *writer) declared(t *doc.Type) {
	fmt.Fprintf(w.out, "\n### %s\n\n%s\n", t.Name, paragraphs(t.Doc))
	for _, spec := range t.Decl.Specs {
		switch is := spec.(*ast.TypeSpec).Type.(type) {
		case *ast.StructType:
			w.fields(is.Fields.List)
		case *ast.InterfaceType:
			w.fields(is.Methods.List)
		}
	}
	for _, m := range t.Methods {
		w.function(m)
	}
}

// fields is a table. What is told of several fields at once stands at the first.
func (w *writer) fields(list []*ast.Field) {
	header := "\n| field | type | |\n| --- | --- | --- |\n"
	for _, f := range list {
		var names []string
		for _, n := range f.Names {
			if n.IsExported() {
				names = append(names, "`"+n.Name+"`")
			}
		}
		if len(names) == 0 {
			continue
		}
		said := symbol.ReplaceAllString(cell(f.Doc.Text()+f.Comment.Text()), "`$1`")
		fmt.Fprintf(w.out, "%s| %s | `%s` | %s |\n", header, strings.Join(names, ", "), cell(w.code(f.Type)), said)
		header = ""
	}
}

func (w *writer) function(f *doc.Func) {
	bare := *f.Decl
	bare.Body, bare.Doc = nil, nil
	fmt.Fprintf(w.out, "\n```go\n%s\n```\n\n%s\n", w.code(&bare), paragraphs(f.Doc))
}

// code is source text without comments.
func (w *writer) code(node ast.Node) string {
	if d, ok := node.(*ast.GenDecl); ok {
		bare := *d
		bare.Doc = nil
		node = &bare
	}
	var text bytes.Buffer
	if err := printer.Fprint(&text, w.files, node); err != nil {
		return err.Error()
	}
	return text.String()
}

// symbol is a name in brackets, as comments of Go link to it.
var symbol = regexp.MustCompile(`\[([A-Za-z][\w./]*)\]`)

// unescape leaves Markdown that comments are written in as it is.
var unescape = strings.NewReplacer(`\[`, "[", "\\`", "`", `\*`, "*")

// paragraphs is a comment as Markdown.
func paragraphs(text string) string {
	parser := comment.Parser{LookupSym: func(string, string) bool { return false }, LookupPackage: func(string) (string, bool) { return "", false }}
	printer := comment.Printer{HeadingLevel: 4, HeadingID: func(*comment.Heading) string { return "" }}
	return symbol.ReplaceAllString(unescape.Replace(strings.TrimSpace(string(printer.Markdown(parser.Parse(text))))), "`$1`")
}

// cell is text as the cell of a table has it.
func cell(text string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(text), " "), "|", `\|`)
}
