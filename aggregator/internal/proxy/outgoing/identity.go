package outgoing

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"unicode"
	"unicode/utf8"

	"k8s.io/apiserver/pkg/authentication/user"
)

// identity sets the headers that tell extension servers who the user is. None of them
// may be in the header yet, and the user must be one that uncarried has let pass.
//
// The headers are those of client-go's transport.SetAuthProxyHeaders, in lower case, but
// for keys of a user's extra with capitals: readers lower a header's name before they
// decode it, so capitals arrive only if they are escaped like what a name may not have.
type identity struct {
	sendUID bool
	// names are header names of keys of a user's extra: escaping takes longer
	// than all else here. Users may invent keys, so the number is bounded.
	names sync.Map // string -> string
	count atomic.Int64
}

const (
	// maxExtraNames bounds the header names that are kept.
	maxExtraNames = 1000
	// maxQuoted bounds what is quoted of a part of an identity, in characters.
	maxQuoted = 64
)

func (i *identity) set(h http.Header, u user.Info) {
	h[remoteUser] = []string{u.GetName()}
	if uid := u.GetUID(); i.sendUID && uid != "" {
		h[remoteUID] = []string{uid}
	}
	if groups := u.GetGroups(); len(groups) > 0 {
		h[remoteGroup] = groups[:len(groups):len(groups)]
	}
	for key, values := range u.GetExtra() {
		if len(values) > 0 {
			h[i.extraName(key)] = values[:len(values):len(values)]
		}
	}
}

// extraName is the name of the header that carries a key of a user's extra. Two keys
// never have the same.
func (i *identity) extraName(key string) string {
	if name, ok := i.names.Load(key); ok {
		return name.(string)
	}
	var b strings.Builder
	b.WriteString(remoteExtra)
	for _, c := range []byte(key) {
		if keptInName(c) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02x", c)
		}
	}
	name := b.String()
	if i.count.Load() < maxExtraNames {
		if _, loaded := i.names.LoadOrStore(key, name); !loaded {
			i.count.Add(1)
		}
	}
	return name
}

// keptInName says whether a byte of a key stands for itself in a header's name: it may
// be in one (RFC 9110, section 5.6.2), and is neither a capital nor what escapes begin
// with, nor an underscore, which servers of the CGI family take for a hyphen.
func keptInName(c byte) bool {
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || strings.IndexByte("!#$&'*+-.^`|~", c) >= 0
}

// check finds the part of a user's identity that would not arrive in a header as it is.
// It returns nil where all of them would: what arrives is this identity or none, never
// another one.
//
// A key of an extra without values is no part: it says nothing, and is not sent.
func (i *identity) check(u user.Info) *uncarried {
	name := u.GetName()
	if name == "" { // which a reader takes for nobody, and looks for another identity
		return &uncarried{part: "user name", why: "is empty"}
	}
	if why := unfit(name); why != "" {
		return &uncarried{"user name", name, why}
	}
	if uid := u.GetUID(); i.sendUID {
		if why := unfit(uid); why != "" {
			return &uncarried{"UID", uid, why}
		}
	}
	for _, group := range u.GetGroups() {
		if group == "" { // which a reader drops
			return &uncarried{part: "group", why: "is empty"}
		}
		if why := unfit(group); why != "" {
			return &uncarried{"group", group, why}
		}
	}
	for key, values := range u.GetExtra() {
		if len(values) > 0 && !utf8.ValidString(key) { // escaped, all else arrives
			return &uncarried{"extra key", key, notUTF8}
		}
		for _, value := range values {
			if why := unfit(value); why != "" {
				return &uncarried{"extra value", value, why}
			}
		}
	}
	return nil
}

// uncarried is a part of an identity that a header does not carry, and why.
type uncarried struct{ part, value, why string }

// String is for whoever reads the answer or the audit log: what a user may have chosen
// is quoted, and cut where it is long.
func (u *uncarried) String() string {
	if u.value == "" {
		return u.part + " " + u.why
	}
	quoted := fmt.Sprintf("%+.*q", maxQuoted, u.value)
	if utf8.RuneCountInString(u.value) > maxQuoted {
		quoted += "..."
	}
	return u.part + " " + quoted + " " + u.why
}

const notUTF8 = "is not UTF-8"

// unfit says why a value would not arrive as it is; it is empty where it would.
// Transports and readers trim blanks, replace or refuse control characters, and do not
// agree on what is not UTF-8.
func unfit(value string) string {
	if value == "" {
		return ""
	}
	if !utf8.ValidString(value) {
		return notUTF8
	}
	if strings.ContainsFunc(value, unicode.IsControl) {
		return "has control characters"
	}
	first, _ := utf8.DecodeRuneInString(value)
	last, _ := utf8.DecodeLastRuneInString(value)
	if unicode.IsSpace(first) || unicode.IsSpace(last) {
		return "begins or ends with a blank"
	}
	return ""
}
