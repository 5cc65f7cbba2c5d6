package outgoing

import (
	"net/url"
	"strings"
	"unicode/utf8"
)

const (
	// maxPlainParameters bounds a query that is forwarded as it came. Go reads none of
	// a longer one, from some number on.
	maxPlainParameters = 1000
	// plainInQuery are the characters besides letters and digits that stand for
	// themselves in a query (RFC 3986, section 3.4) to every reader. A semicolon is not
	// among them, which separates for some, nor a question mark, which others leave out
	// where it comes first.
	plainInQuery = "-._~!$'()*,:@/" + "&=+%"
)

// readOnce are the parameters that the authorizer goes by. It takes the first of
// several, where others take the last.
var readOnce = [...]string{"fieldSelector", "labelSelector", "watch"}

// forwardedQuery is a query as it is forwarded. One that readers do not agree about is
// written anew from what was read here. It is refused where that is not UTF-8: no two
// of them read such a value in the same way.
func forwardedQuery(u *url.URL) (query string, ok bool) {
	plain, ascii := isPlain(u.RawQuery)
	if plain && ascii {
		return u.RawQuery, true
	}
	values := u.Query()
	for key, list := range values {
		if !utf8.ValidString(key) {
			return "", false
		}
		for _, value := range list {
			if !utf8.ValidString(value) {
				return "", false
			}
		}
	}
	if plain {
		return u.RawQuery, true
	}
	for _, key := range readOnce {
		if list := values[key]; len(list) > 1 {
			values[key] = list[:1]
		}
	}
	return values.Encode(), true
}

// isPlain says whether a query is read in the same way by everybody, if its values are
// UTF-8, and whether it has nothing but ASCII.
func isPlain(query string) (plain, ascii bool) {
	ascii = true
	for i := 0; i < len(query); i++ {
		switch c := query[i]; {
		case c == '%':
			if i+2 >= len(query) || !isHex(query[i+1]) || !isHex(query[i+2]) {
				return false, false
			}
			ascii = ascii && query[i+1] < '8'
			i += 2
		case 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9':
		case strings.IndexByte(plainInQuery, c) < 0:
			return false, false
		}
	}
	return isReadOnce(query), ascii
}

// isReadOnce says whether no parameter that the authorizer goes by comes twice, and
// there are not too many to tell.
func isReadOnce(query string) bool {
	var seen [len(readOnce)]bool
	parameters := 0
	for parameter := range strings.SplitSeq(query, "&") {
		if parameters++; parameters > maxPlainParameters {
			return false
		}
		key, _, _ := strings.Cut(parameter, "=")
		if strings.ContainsAny(key, "%+") {
			key, _ = url.QueryUnescape(key)
		}
		for i, name := range readOnce {
			if key == name {
				if seen[i] {
					return false
				}
				seen[i] = true
			}
		}
	}
	return true
}
