package observe

import (
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// clean is a text that somebody else has written, cut to so many bytes, with what is not
// printable left out: control characters, and what changes the direction of writing.
func clean(text string, most int) string {
	const cut = "…"
	plain := func(r rune) bool { return r != utf8.RuneError && unicode.IsPrint(r) }
	if len(text) <= most && utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool { return !plain(r) }) {
		return text
	}
	if len(text) > 4*most { // more would be cut off anyway
		text = text[:4*most]
	}
	text = strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if plain(r) {
			return r
		}
		return ' '
	}, text)), " ")
	if len(text) <= most {
		return text
	}
	end := most - len(cut)
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + cut
}

// twoFigures is a time of which two figures count: an idle server's does not change.
func twoFigures(d time.Duration) string {
	value, unit := d.Seconds(), "s"
	if d < 995*time.Millisecond {
		value, unit = value*1000, "ms"
	}
	rounded, _ := strconv.ParseFloat(strconv.FormatFloat(value, 'g', 2, 64), 64)
	return strconv.FormatFloat(rounded, 'f', -1, 64) + unit
}
