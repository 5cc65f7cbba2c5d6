package proxy

import (
	"net/http"
	"strings"
	"sync"
	"sync/atomic"

	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/transport"
)

// identity sets the headers that tell extension servers who the user is, as
// client-go's transport.SetAuthProxyHeaders does but in lower case; none of them may
// be in the header yet.
type identity struct {
	sendUID bool
	// names are header names of keys of a user's extra: escaping takes longer
	// than all else here. Users may invent keys, so the number is bounded.
	names sync.Map // string -> string
	count atomic.Int64
}

// maxExtraNames bounds the header names that are kept.
const maxExtraNames = 1000

func (i *identity) set(h http.Header, u user.Info) {
	h[remoteUser] = []string{u.GetName()}
	if uid := u.GetUID(); i.sendUID && uid != "" {
		h[remoteUID] = []string{uid}
	}
	if groups := u.GetGroups(); len(groups) > 0 {
		h[remoteGroup] = groups[:len(groups):len(groups)]
	}
	for key, values := range u.GetExtra() {
		if len(values) == 0 {
			continue
		}
		name := i.extraName(key)
		if before, twice := h[name]; twice { // two keys may have one name
			h[name] = append(before, values...)
		} else {
			h[name] = values[:len(values):len(values)]
		}
	}
}

func (i *identity) extraName(key string) string {
	if name, ok := i.names.Load(key); ok {
		return name.(string)
	}
	r := &http.Request{Header: http.Header{}}
	transport.SetAuthProxyHeaders(r, "", "", nil, map[string][]string{key: {""}})
	delete(r.Header, "X-Remote-User")
	for name := range r.Header {
		name = strings.ToLower(name)
		if i.count.Load() < maxExtraNames {
			if _, loaded := i.names.LoadOrStore(key, name); !loaded {
				i.count.Add(1)
			}
		}
		return name
	}
	return "" // cannot be: one header was set
}
