package upstream

import (
	"fmt"
	"go/ast"
	"go/token"
	"strings"
)

// Calls lists what a function calls, in the order of its text: one line a call, with
// what its result is assigned to and those of its arguments that are names or
// literals, indented below the conditions and function literals that it stands in.
func (s *Source) Calls(function string) (string, error) {
	f, err := s.Func(function)
	if err != nil {
		return "", err
	}
	l := &lister{source: s}
	l.block(f.Body.List)
	return l.text.String(), nil
}

type lister struct {
	source *Source
	text   strings.Builder
	depth  int
	// assigned is what the call that is listed next is assigned to.
	assigned string
}

func (l *lister) line(format string, args ...any) {
	l.text.WriteString(strings.Repeat("\t", l.depth))
	fmt.Fprintf(&l.text, format+"\n", args...)
}

func (l *lister) nested(head string, list []ast.Stmt) {
	l.line("%s", head)
	l.depth++
	l.block(list)
	l.depth--
}

func (l *lister) block(list []ast.Stmt) {
	for _, statement := range list {
		l.statement(statement)
	}
}

func (l *lister) statement(s ast.Stmt) {
	switch s := s.(type) {
	case *ast.IfStmt:
		if s.Init != nil {
			l.statement(s.Init)
		}
		l.nested("if "+l.source.Text(s.Cond), s.Body.List)
		switch e := s.Else.(type) {
		case *ast.BlockStmt:
			l.nested("else", e.List)
		case *ast.IfStmt:
			l.line("else")
			l.depth++
			l.statement(e)
			l.depth--
		}
	case *ast.ForStmt:
		l.nested("for", s.Body.List)
	case *ast.RangeStmt:
		l.expression(s.X)
		l.nested("for range "+l.source.Text(s.X), s.Body.List)
	case *ast.SwitchStmt:
		l.line("switch")
		l.depth++
		for _, c := range s.Body.List {
			c := c.(*ast.CaseClause)
			var when []string
			for _, e := range c.List {
				when = append(when, l.source.Text(e))
			}
			l.nested("case "+strings.Join(when, ", "), c.Body)
		}
		l.depth--
	case *ast.BlockStmt:
		l.block(s.List)
	case *ast.AssignStmt:
		if _, call := s.Rhs[0].(*ast.CallExpr); call && len(s.Rhs) == 1 {
			var to []string
			for _, e := range s.Lhs {
				to = append(to, l.source.Text(e))
			}
			l.assigned = strings.Join(to, ", ") + " " + s.Tok.String() + " "
		}
		ast.Inspect(s, l.inspect)
		l.assigned = ""
	case nil:
	default:
		ast.Inspect(s, l.inspect)
	}
}

func (l *lister) expression(e ast.Expr) { ast.Inspect(e, l.inspect) }

// inspect lists the calls below a node. What a call is given is called before it.
func (l *lister) inspect(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.FuncLit:
		l.nested("func", n.Body.List)
		return false
	case *ast.CallExpr:
		assigned := l.assigned
		l.assigned = ""
		var literals []ast.Expr
		for _, a := range n.Args {
			if _, ok := a.(*ast.FuncLit); ok {
				literals = append(literals, a)
				continue
			}
			l.expression(a)
		}
		l.assigned = assigned
		l.line("%s%s(%s)", l.assigned, l.source.Text(n.Fun), l.arguments(n.Args))
		l.assigned = ""
		l.depth++
		for _, f := range literals {
			l.expression(f)
		}
		l.depth--
		return false
	}
	return true
}

func (l *lister) arguments(args []ast.Expr) string {
	var said []string
	for _, a := range args {
		switch a := a.(type) {
		case *ast.BasicLit, *ast.Ident, *ast.SelectorExpr:
			said = append(said, l.source.Text(a))
		case *ast.FuncLit:
			said = append(said, "func")
		case *ast.UnaryExpr:
			if a.Op == token.AND {
				said = append(said, "&…")
				continue
			}
			said = append(said, l.source.Text(a))
		default:
			said = append(said, "…")
		}
	}
	return strings.Join(said, ", ")
}
