package diagnosis

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// How long text of others may be, in bytes.
const (
	// maxValue is one value in a sentence.
	maxValue = 300
	// maxEvidence is the sentence.
	maxEvidence = 1000
)

// maxMarks is how many accents may follow one letter: a hundred of them cover the lines around it.
const maxMarks = 3

// Printable makes text of others fit for a line on a terminal: no control characters, no escape
// codes, nothing invisible, nothing that turns the direction of writing, spaces made one. What cannot
// be printed becomes the replacement character. It is cut to at most so many bytes.
func Printable(s string, most int) string {
	var b strings.Builder
	space, marks := false, 0
	for _, r := range s {
		if unicode.IsSpace(r) {
			space = b.Len() > 0
			continue
		}
		switch {
		case !unicode.IsPrint(r): // control and format characters, private ones, surrogates
			r = utf8.RuneError
		case unicode.In(r, unicode.Mn, unicode.Me):
			if marks++; marks > maxMarks {
				continue
			}
		default:
			marks = 0
		}
		more := utf8.RuneLen(r)
		if space {
			more++
		}
		if b.Len()+more > most {
			return cut(b.String(), most)
		}
		if space {
			b.WriteByte(' ')
			space = false
		}
		b.WriteRune(r)
	}
	return b.String()
}

// cut is the beginning of a text that goes on, with an ellipsis where there is room for one: both have
// at most so many bytes.
func cut(s string, most int) string {
	const ellipsis = "…"
	end := ellipsis
	if most < len(ellipsis) {
		end = ""
	}
	n := min(len(s), max(most-len(end), 0))
	for n > 0 && n < len(s) && !utf8.RuneStart(s[n]) {
		n--
	}
	return strings.TrimRight(s[:n], " ") + end
}

// sentence is a format with each value made printable and bounded.
func sentence(format string, args ...any) string {
	for i, a := range args {
		switch a := a.(type) {
		case string:
			args[i] = Printable(a, maxValue)
		case error:
			args[i] = Printable(a.Error(), maxValue)
		case fmt.Stringer:
			args[i] = Printable(a.String(), maxValue)
		}
	}
	return Printable(fmt.Sprintf(format, args...), maxEvidence)
}

// list is at most five of many names.
func list(names []string) string {
	const most = 5
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

// plural is "1 Pod" or "2 Pods".
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// Mentions says whether a text has a name that is not part of a longer one, as metrics.k8s.io/v1
// is of custom.metrics.k8s.io/v1beta1.
func Mentions(text, name string) bool {
	inName := func(s string, at int) bool {
		if at < 0 || at >= len(s) {
			return false
		}
		c := s[at]
		return c == '-' || c == '.' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z'
	}
	for from := 0; ; {
		i := strings.Index(text[from:], name)
		if i < 0 {
			return false
		}
		begin := from + i
		end := begin + len(name)
		// A dot may end a sentence.
		if !inName(text, begin-1) && (!inName(text, end) || text[end] == '.' && !inName(text, end+1)) {
			return true
		}
		from = begin + 1
	}
}
