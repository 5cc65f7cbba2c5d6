package backend

import (
	"strings"
	"unicode/utf8"
)

// maxErrorText bounds what is said of an error, in bytes.
const maxErrorText = 1 << 10

// closedByUs is what requests are told whose connection this package closes, and givenUp what it
// means: they were under way, so that the far end was silent.
const (
	closedByUs = "http2: client connection force closed via ClientConn.Close"
	givenUp    = "the connection timed out: the far end does not answer pings"
)

// ErrorText is what an error says, cut to a bound, for conditions and logs. An extension
// server decides most of the text: of an answer that is none, of names in a certificate,
// of a connection that it ends with a word.
func ErrorText(err error) string {
	if err == nil {
		return ""
	}
	text := strings.ReplaceAll(err.Error(), closedByUs, givenUp)
	if len(text) <= maxErrorText {
		return strings.ToValidUTF8(text, "\uFFFD")
	}
	const cut = "…"
	end := maxErrorText - len(cut)
	for !utf8.RuneStart(text[end]) && end > maxErrorText/2 {
		end--
	}
	return strings.ToValidUTF8(text[:end], "") + cut
}
