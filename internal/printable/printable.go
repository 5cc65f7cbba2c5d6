// Package printable makes text that others have written fit to be shown: on a terminal, in a log, in
// an object.
package printable

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxMarks is how many accents may follow one letter: a hundred of them cover the lines around it.
const maxMarks = 3

// Line makes text of others fit for a line: no control characters, no escape
// codes, nothing invisible, nothing that turns the direction of writing, spaces made one. What cannot
// be printed becomes the replacement character. It is cut to at most so many bytes.
func Line(s string, most int) string {
	if len(s) <= most && plain(s) {
		return s
	}
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

// plain says of most lines that nothing is to be done: letters, digits and signs of ASCII, a space between words.
func plain(s string) bool {
	space := true // none at the beginning
	for i := range len(s) {
		switch c := s[i]; {
		case c == ' ' && !space:
			space = true
		case c <= ' ', c > '~':
			return false
		default:
			space = false
		}
	}
	return s == "" || !space
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
