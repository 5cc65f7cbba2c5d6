package console

import (
	"crypto/rand"
	"crypto/subtle"
	"fmt"
	"net/http"
	"slices"

	"github.com/annex-api/annex/console"
)

// tokenHeader is where the page says the token of its address.
const tokenHeader = "Annex-Console-Token"

// door lets in who has the address that was printed. Everybody on this machine can reach the port, and
// pages of other sites can have a browser ask it.
//
// The token is behind the # of the address, which browsers send to nobody, and the page says it in a
// header. It is no cookie: browsers send these to every port of a host, where another user may listen.
// The page's own files are given to everybody, since a browser sends no header for them.
type door struct {
	token string
	hosts []string
	next  http.Handler
}

func newDoor(port int) *door {
	d := &door{
		token: rand.Text(),
		hosts: []string{fmt.Sprintf("127.0.0.1:%d", port), fmt.Sprintf("localhost:%d", port)},
	}
	if port == 80 {
		d.hosts = append(d.hosts, "127.0.0.1", "localhost") // browsers leave out the usual port
	}
	return d
}

// address opens the page.
func (d *door) address() string {
	return fmt.Sprintf("http://%s%s#token=%s", d.hosts[0], console.Path, d.token)
}

func (d *door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	console.SetHeaders(w.Header())
	w.Header().Set("Cache-Control", "no-store")
	switch {
	case !slices.Contains(d.hosts, r.Host):
		answer(w, http.StatusMisdirectedRequest, "this address is not served here")
	case !console.SameOrigin(r):
		answer(w, http.StatusForbidden, "other sites may not ask the console")
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		answer(w, http.StatusMethodNotAllowed, "the console is read-only")
	case r.URL.Path == "/", r.URL.Path+"/" == console.Path:
		http.Redirect(w, r, console.Path, http.StatusFound)
	case !console.IsFile(r.URL.Path) && !d.knows(r):
		answer(w, http.StatusForbidden, "open the whole address that annex console printed, with its token")
	default:
		r.Header.Del("Cookie") // nobody behind the door needs what others have set for this host
		r.Header.Del(tokenHeader)
		d.next.ServeHTTP(w, r)
	}
}

// knows says whether a request has the token. The comparison takes a time that tells nothing.
func (d *door) knows(r *http.Request) bool {
	return subtle.ConstantTimeCompare([]byte(r.Header.Get(tokenHeader)), []byte(d.token)) == 1
}
