package shell

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAnswers(t *testing.T) {
	p := program{name: "sh", user: "ada", size: size{Width: 80, Height: 24}}
	for line, want := range map[string]answer{
		"":                  {},
		"  ":                {},
		"2*(3+4)":           {out: "14"},
		"1<<100":            {out: "1267650600228229401496703205376"},
		`"a" + "b"`:         {out: `"ab"`},
		"7/2.0":             {out: "3.5"},
		"echo  a  b":        {out: "a  b"},
		"whoami":            {out: "ada"},
		"hostname":          {out: "sh"},
		"size":              {out: "80x24"},
		"help":              {out: help},
		"exit":              {exit: true},
		"exit 7":            {exit: true, code: 7},
		"exit 256":          {errOut: "exit: a code is a number from 0 to 255"},
		"rm -rf /":          {errOut: "rm -rf /: neither a sum nor a word that is known here; help lists them"},
		"1/0":               {errOut: "1/0: neither a sum nor a word that is known here; help lists them"},
		"1<<100000":         {errOut: "1<<100000: neither a sum nor a word that is known here; help lists them"},
		"func() int {}()":   {errOut: "func() int {}(): neither a sum nor a word that is known here; help lists them"},
		"len":               {errOut: "len: neither a sum nor a word that is known here; help lists them"},
		"1e1000000000*1e99": {errOut: "1e1000000000*1e99: neither a sum nor a word that is known here; help lists them"},
	} {
		if diff := cmp.Diff(want, p.answer(line), cmp.AllowUnexported(answer{})); diff != "" {
			t.Errorf("%q (-want +got):\n%s", line, diff)
		}
	}
}

// A line of any brackets and digits is answered; the parser's own depth is bounded.
func FuzzSum(f *testing.F) {
	f.Add("1+1")
	f.Add(strings.Repeat("(", maxLine))
	f.Add(strings.Repeat("9", maxLine))
	f.Fuzz(func(t *testing.T, line string) {
		if len(line) > maxLine {
			return
		}
		if a := sum(line); (a.out == "") == (a.errOut == "") {
			t.Errorf("%q gives %+v, want either a value or an error", line, a)
		}
	})
}

func TestLines(t *testing.T) {
	long := strings.Repeat("a", maxLine)
	for name, c := range map[string]struct {
		tty   bool
		typed []string
		want  []typedLine
		show  string
	}{
		"two lines, in parts":     {false, []string{"on", "e\ntwo\nth"}, []typedLine{{text: "one"}, {text: "two"}}, ""},
		"keys mean nothing":       {false, []string{"a\x03\x04\x7f\n"}, []typedLine{{text: "a\x03\x04\x7f"}}, ""},
		"the longest line":        {false, []string{long + "\n"}, []typedLine{{text: long}}, ""},
		"a longer one":            {false, []string{long, "bc\nd\n"}, []typedLine{{text: long, tooLong: true}, {text: "d"}}, ""},
		"a terminal shows":        {true, []string{"ab\r"}, []typedLine{{text: "ab"}}, "ab\r\n"},
		"erase":                   {true, []string{"\x7fab\x7fc\r"}, []typedLine{{text: "ac"}}, "ab\b \bc\r\n"},
		"Ctrl-C":                  {true, []string{"ab\x03c\r"}, []typedLine{{}, {text: "c"}}, "ab^C\r\nc\r\n"},
		"Ctrl-D":                  {true, []string{"a\x04\r\x04b"}, []typedLine{{text: "a"}, {end: true}}, "a\r\n\r\n"},
		"other keys mean nothing": {true, []string{"a\x1b\tb\r"}, []typedLine{{text: "ab"}}, "ab\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			l := lines{tty: c.tty}
			var got []typedLine
			var shown string
			for _, part := range c.typed {
				whole, show := l.add([]byte(part))
				got, shown = append(got, whole...), shown+show
			}
			if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(typedLine{})); diff != "" || shown != c.show {
				t.Errorf("shown %q, want %q; lines (-want +got):\n%s", shown, c.show, diff)
			}
		})
	}
}
