package outgoing

import (
	"math/bits"
	"strings"
	"unicode"
	"unicode/utf8"
)

// climbs says whether any reader could take a path, as it was sent, for one that leads
// out of where it begins. Each segment counts as what the reader makes of it who comes
// out highest; readers that clean paths need not agree about one of them.
func climbs(path string) bool {
	depth := 0
	for segment := range strings.SplitSeq(path, "/") {
		if depth += descent(segment); depth < 0 {
			return true
		}
	}
	return false
}

// descent is how many levels a segment leads down at least; it leads up where that is
// negative.
func descent(segment string) int {
	if !strings.ContainsFunc(segment, func(c rune) bool { return !ordinary(c) }) {
		return min(len(segment), 1)
	}
	decoded := decodeAll(segment)
	return min(descentOf(decodeOverlong(decoded)), descentOf(dropInvalid(decoded)))
}

// ordinary characters mean themselves to everybody.
func ordinary(c rune) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_'
}

// descentOf counts the pieces of a decoded segment: names lead down one level together,
// as they do where the segment is taken for one, and each ".." leads up.
func descentOf(segment string) int {
	up, down := 0, 0
	for _, piece := range strings.FieldsFunc(segment, func(c rune) bool { return c == '/' || c == '\\' }) {
		piece, _, _ = strings.Cut(piece, ";") // parameters
		piece = strings.Map(func(c rune) rune {
			if unicode.IsControl(c) || unicode.IsSpace(c) {
				return -1
			}
			return c
		}, piece)
		switch piece {
		case "", ".":
		case "..":
			up++
		default:
			down = 1
		}
	}
	if up > 0 {
		return -up
	}
	return down
}

// decodeAll decodes escapes, and those that come out of them.
func decodeAll(s string) string {
	out := make([]byte, 0, len(s))
	for i := range len(s) {
		out = append(out, s[i])
		for n := len(out); n >= 3 && out[n-3] == '%' && isHex(out[n-2]) && isHex(out[n-1]); n = len(out) {
			out = append(out[:n-3], unhex(out[n-2])<<4|unhex(out[n-1]))
		}
	}
	return string(out)
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func unhex(c byte) byte {
	switch {
	case c >= 'a':
		return c - 'a' + 10
	case c >= 'A':
		return c - 'A' + 10
	}
	return c - '0'
}

// decodeOverlong decodes ASCII that is spelled with several bytes, as lenient decoders
// of UTF-8 do.
func decodeOverlong(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for s != "" {
		size := bits.LeadingZeros8(^s[0]) // how many bytes the first one announces
		if size >= 2 && size <= 6 && size <= len(s) {
			value := uint32(s[0]) & (1<<(7-size) - 1)
			for i := 1; i < size; i++ {
				value = value<<6 | uint32(s[i])&0x3f
			}
			if value < utf8.RuneSelf {
				b.WriteByte(byte(value))
				s = s[size:]
				continue
			}
		}
		b.WriteByte(s[0])
		s = s[1:]
	}
	return b.String()
}

// dropInvalid leaves out what is not UTF-8, as other decoders do.
func dropInvalid(s string) string { return strings.ToValidUTF8(s, "") }
