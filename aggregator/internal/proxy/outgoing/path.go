package outgoing

import (
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/annex-api/annex/aggregator/internal/respond"
)

var (
	unclearPath = &Refusal{
		respond.PathRefused,
		"the path could be read in two ways, and is not forwarded: it has an empty or dot segment, a percent sign, backslash, semicolon or control character, or is not UTF-8",
	}
	unclearBoundary = &Refusal{
		respond.PathRefused,
		"the path could be read in two ways, and is not forwarded: it has an encoded slash before what is below the subresource",
	}
	climbingPath = &Refusal{
		respond.PathRefused,
		"the path could be read in two ways, and is not forwarded: what is below the subresource leads out of it",
	}
	unclearQuery = &Refusal{Reason: respond.QueryRefused}
)

// forwarded is what of a request's URL goes to an extension server, without a host.
//
// What the authorizer reads of the path is written anew from what it read, and refused
// where another reader could read it differently. What follows a subresource is read by
// no authorizer: it is the user's own, and is sent as it came, with its query. It may
// not lead out of the subresource, whoever reads it.
func forwarded(r *http.Request) (url.URL, *Refusal) {
	to := url.URL{Scheme: "https", Path: r.URL.Path, ForceQuery: r.URL.ForceQuery}
	segments, all := authorized(r)
	end := len(to.Path)
	if !all {
		end = endOf(to.Path, segments)
	}
	if !unambiguous(to.Path[:end]) {
		return to, unclearPath
	}
	if end == len(to.Path) && !all { // with a name and a subresource no parameter is authorized
		to.RawQuery = sendable(r.URL.RawQuery)
		return to, nil
	}
	if end == len(to.Path) {
		query, ok := forwardedQuery(r.URL)
		if !ok {
			return to, unclearQuery
		}
		to.RawQuery = query
		return to, nil
	}
	raw := rawPath(r)
	boundary := endOf(raw, segments)
	if hasEncodedSlash(raw[:boundary]) {
		return to, unclearBoundary
	}
	own := raw[boundary:]
	if climbs(own) {
		return to, climbingPath
	}
	to.Opaque = (&url.URL{Path: to.Path[:end]}).EscapedPath() + sendable(own)
	to.RawQuery = sendable(r.URL.RawQuery)
	return to, nil
}

// escapedPath is the path of a URL that forwarded returned, as it is sent.
func escapedPath(u *url.URL) string {
	if u.Opaque != "" {
		return u.Opaque
	}
	return u.EscapedPath()
}

// authorized is how many segments of the path an authorizer reads: those of a resource,
// an object and a subresource, with what stands before them. All is true where there is
// no more than that, or it reads the whole path.
func authorized(r *http.Request) (segments int, all bool) {
	info, ok := request.RequestInfoFrom(r.Context())
	if !ok || !info.IsResourceRequest || info.Path != r.URL.Path {
		return 0, true
	}
	read, last := 3, info.Subresource // with resource and name
	if info.Verb == "proxy" {         // as /apis/<group>/<version>/proxy/…, which knows no subresource
		read, last = 2, info.Name
	}
	if last == "" { // there is none, or an empty segment in its place
		return 0, true
	}
	total := strings.Count(strings.Trim(info.Path, "/"), "/") + 1
	if len(info.Parts) < read || total < len(info.Parts) {
		return 0, true
	}
	return total - len(info.Parts) + read, false
}

// endOf is where that many segments of a path end, each of which begins with a slash;
// the path's own end where it has no more.
func endOf(path string, segments int) int {
	end := 0
	for ; segments > 0 && end < len(path); segments-- {
		next := strings.IndexByte(path[end+1:], '/')
		if next < 0 {
			return len(path)
		}
		end += 1 + next
	}
	return end
}

// unambiguous says whether every reader takes a decoded path for the same segments. Empty and
// dot segments are gone for who cleans paths, parameters after a semicolon for who knows
// them, a backslash separates for some, a percent sign makes an escape for who decodes
// twice, and a control character may end the path or be left out. No name of Kubernetes'
// kind has any of these. The path may end in a slash.
func unambiguous(path string) bool {
	for i := range len(path) {
		switch c := path[i]; {
		case c < ' ' || c == 0x7f || c == '%' || c == ';' || c == '\\':
			return false
		}
	}
	for rest := path[min(1, len(path)):]; rest != ""; {
		segment, after, more := strings.Cut(rest, "/")
		if segment == "." || segment == ".." || (segment == "" && more) {
			return false
		}
		rest = after
	}
	return utf8.ValidString(path)
}

// rawPath is the path of a request as its client spelled it. Where a handler has
// changed the path since, it is that one.
func rawPath(r *http.Request) string {
	raw, _, _ := strings.Cut(r.RequestURI, "?")
	if _, rest, absolute := strings.Cut(raw, "://"); absolute && !strings.HasPrefix(raw, "/") {
		raw = rest[strings.IndexByte(rest+"/", '/'):]
	}
	if path, err := url.PathUnescape(raw); err == nil && path == r.URL.Path {
		return raw
	}
	return r.URL.EscapedPath()
}

func hasEncodedSlash(path string) bool {
	return strings.Contains(path, "%2F") || strings.Contains(path, "%2f")
}

// sendable escapes what may not be sent in a path or query: a blank would end it, and
// so would a number sign for some who read it. All else stays as it is.
func sendable(s string) string {
	unfit := func(c byte) bool { return c <= ' ' || c == 0x7f || c == '#' }
	i := 0
	for i < len(s) && !unfit(s[i]) {
		i++
	}
	if i == len(s) {
		return s
	}
	var b strings.Builder
	for _, c := range []byte(s) {
		if unfit(c) {
			const hex = "0123456789ABCDEF"
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
