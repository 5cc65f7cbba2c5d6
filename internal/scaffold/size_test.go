package scaffold

import (
	"go/parser"
	"go/scanner"
	"go/token"
	"testing"
)

// maxLines is what the first kind may take to write, beside its type: resource, hooks and
// controller.
const maxLines = 60

func TestTheFirstKindTakesFewLines(t *testing.T) {
	files := render(t, sample("Widget"), nil)
	lines := 0
	for _, name := range []string{"widget.go", "widget_controller.go"} {
		n := linesOfCode(t, name, find(t, files, name))
		if n == 0 {
			t.Errorf("%s has no code", name)
		}
		lines += n
	}
	if lines > maxLines {
		t.Errorf("the first kind takes %d lines beside its type, want at most %d", lines, maxLines)
	}
	t.Logf("%d lines", lines)
}

// linesOfCode counts the lines below the imports that hold more than a comment.
func linesOfCode(t *testing.T, name, source string) int {
	t.Helper()
	files := token.NewFileSet()
	parsed, err := parser.ParseFile(files, name, source, 0)
	if err != nil {
		t.Fatal(err)
	}
	below := files.Position(parsed.Name.End()).Line
	for _, i := range parsed.Imports {
		below = max(below, files.Position(i.End()).Line)
	}
	var s scanner.Scanner
	file := token.NewFileSet().AddFile(name, -1, len(source))
	s.Init(file, []byte(source), nil, 0)
	found := map[int]bool{}
	for {
		pos, what, text := s.Scan()
		if what == token.EOF {
			break
		}
		line := file.Position(pos).Line
		if line > below && !(what == token.SEMICOLON && text == "\n") && !(what == token.RPAREN && line == below+1) {
			found[line] = true
		}
	}
	return len(found)
}
