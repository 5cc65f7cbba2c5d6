package docs

import (
	"fmt"
	"go/constant"
	"go/token"
	"io/fs"
	"regexp"
	"strings"
	"time"
)

// quantity matches a number with its unit.
var quantity = regexp.MustCompile(`([0-9][0-9,]*(?:\.[0-9]+)?)(?: ?(KiB|MiB|bytes|ms|min|s|h|%)(?:[^a-zA-Z]|$))?`)

// units say by what a number of them is to be multiplied to be compared with a
// constant: bytes, nanoseconds, or parts of one.
var units = map[string]constant.Value{
	"": constant.MakeInt64(1), "bytes": constant.MakeInt64(1),
	"KiB": constant.MakeInt64(1 << 10), "MiB": constant.MakeInt64(1 << 20),
	"ms": nanoseconds(time.Millisecond), "s": nanoseconds(time.Second),
	"min": nanoseconds(time.Minute), "h": nanoseconds(time.Hour),
	"%": constant.MakeFromLiteral("0.01", token.FLOAT, 0), // exactly
}

func nanoseconds(d time.Duration) constant.Value { return constant.MakeInt64(int64(d)) }

// bound is a row of a table of bounds: what it says, and the constants that
// hold it, one for each of its numbers.
type bound struct {
	line      int
	text      string
	constants []string
}

// boundsOf reads the tables of a document that have the columns "bound" and
// "constants".
func boundsOf(content string) []bound {
	var rows []bound
	inTable, at, named := false, 0, 0
	prose(content, func(number int, line string) {
		cells := cellsOf(line)
		switch {
		case cells == nil:
			inTable = false
		case !inTable:
			inTable, at, named = true, index(cells, "bound"), index(cells, "constants")
		case at >= 0 && named >= 0 && max(at, named) < len(cells) && !strings.HasPrefix(cells[0], "---"):
			row := bound{line: number, text: cells[at]}
			for _, m := range code.FindAllString(cells[named], -1) {
				row.constants = append(row.constants, strings.Trim(m, "`"))
			}
			rows = append(rows, row)
		}
	})
	return rows
}

// cellsOf returns the cells of a row of a table; nil for any other line.
func cellsOf(line string) []string {
	line = strings.TrimSpace(line)
	if !strings.HasPrefix(line, "|") || !strings.HasSuffix(line, "|") || len(line) < 2 {
		return nil
	}
	cells := strings.Split(line[1:len(line)-1], "|")
	for i := range cells {
		cells[i] = strings.TrimSpace(cells[i])
	}
	return cells
}

func index(cells []string, name string) int {
	for i, c := range cells {
		if c == name {
			return i
		}
	}
	return -1
}

// wrongBounds returns a sentence for each number in a document's tables of
// bounds that is not that of its constant.
func wrongBounds(repository fs.FS, name string, known *constants) (wrong []string, checked int, err error) {
	content, err := fs.ReadFile(repository, name)
	if err != nil {
		return nil, 0, err
	}
	for _, row := range boundsOf(string(content)) {
		say := func(format string, args ...any) {
			wrong = append(wrong, fmt.Sprintf("%s:%d: ", name, row.line)+fmt.Sprintf(format, args...))
		}
		numbers := quantity.FindAllStringSubmatch(row.text, -1)
		if len(numbers) != len(row.constants) || len(numbers) == 0 {
			say("%q has %d numbers and %d constants", row.text, len(numbers), len(row.constants))
			continue
		}
		for i, m := range numbers {
			value, err := known.value(row.constants[i])
			if err != nil {
				say("%s: %v", row.constants[i], err)
				continue
			}
			checked++
			if !constant.Compare(value, token.EQL, said(m[1], m[2])) {
				say("%s is %s in the code, and not %s", row.constants[i], inUnit(value, m[2]), strings.TrimSpace(m[1]+" "+m[2]))
			}
		}
	}
	return wrong, checked, nil
}

// said is the value of a number with a unit.
func said(number, unit string) constant.Value {
	v := constant.MakeFromLiteral(strings.ReplaceAll(number, ",", ""), token.FLOAT, 0)
	return constant.BinaryOp(v, token.MUL, units[unit])
}

func inUnit(v constant.Value, unit string) string {
	n, _ := constant.Float64Val(constant.BinaryOp(constant.ToFloat(v), token.QUO, units[unit]))
	return strings.TrimSpace(fmt.Sprintf("%v %s", n, unit))
}
