package terminal

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/width"
)

// maxMarks is how many accents may follow one letter: a hundred of them cover the lines around it.
const maxMarks = 3

// Printable makes a text of others' harmless on a terminal: one line, no control characters, no
// escape codes, nothing invisible, nothing that turns the direction of writing. What is not printable
// becomes a space or the replacement character. It is cut to at most limit bytes.
func Printable(s string, limit int) string {
	const ellipsis = "…"
	var b strings.Builder
	var space bool
	var marks int
	for _, r := range s {
		if unicode.IsSpace(r) {
			space = b.Len() > 0
			continue
		}
		switch {
		case !unicode.IsPrint(r):
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
		if b.Len()+more > limit {
			return trimTo(b.String(), limit-len(ellipsis)) + ellipsis
		}
		if space {
			b.WriteByte(' ')
			space = false
		}
		b.WriteRune(r)
	}
	return b.String()
}

// trimTo cuts s to at most n bytes, between two characters.
func trimTo(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:max(n, 0)]
}

// Width is how many columns of a terminal a printable text takes.
func Width(s string) int {
	n := 0
	for _, r := range s {
		n += runeWidth(r)
	}
	return n
}

func runeWidth(r rune) int {
	switch {
	case r < utf8.RuneSelf:
		return 1
	case unicode.In(r, unicode.Mn, unicode.Me):
		return 0
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	}
	return 1
}

// Cut shortens a printable text to at most columns columns, and shows by an ellipsis that it did.
func Cut(s string, columns int) string {
	if len(s) <= columns || Width(s) <= columns {
		return s
	}
	if columns <= 0 {
		return ""
	}
	n := 0
	for i, r := range s {
		if n += runeWidth(r); n > columns-1 {
			return s[:i] + "…"
		}
	}
	return s
}
