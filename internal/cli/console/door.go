package console

import (
	"crypto/rand"
	"crypto/subtle"
	"fmt"
	"net/http"
	"slices"

	"github.com/annex-api/annex/console"
)

// door lets in who has the address that was printed: its token becomes a cookie. Everybody on this
// machine can reach the port, and pages of other sites can have a browser ask it.
type door struct {
	port          int
	token, cookie string
	hosts         []string
	next          http.Handler
}

func newDoor(port int) *door {
	return &door{
		port: port, token: rand.Text(), cookie: rand.Text(),
		hosts: []string{fmt.Sprintf("127.0.0.1:%d", port), fmt.Sprintf("localhost:%d", port)},
	}
}

// address opens the page.
func (d *door) address() string { return fmt.Sprintf("http://%s/?token=%s", d.hosts[0], d.token) }

// cookieName has the port in it: browsers keep one jar for all ports of a host.
func (d *door) cookieName() string { return fmt.Sprintf("annex-console-%d", d.port) }

// welcome leads on from within: a cookie that is SameSite=Strict is not sent with a redirect that began
// at another site, or in a file.
const welcome = `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Annex console</title>` +
	`<meta http-equiv="refresh" content="0; url=` + console.Path + `"></head>` +
	`<body><a href="` + console.Path + `">Annex console</a></body></html>`

func (d *door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	console.SetHeaders(w.Header())
	w.Header().Set("Cache-Control", "no-store")
	switch {
	case !slices.Contains(d.hosts, r.Host):
		http.Error(w, "this address is not served here", http.StatusMisdirectedRequest)
	case !console.SameOrigin(r):
		http.Error(w, "other sites may not ask the console", http.StatusForbidden)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "the console is read-only", http.StatusMethodNotAllowed)
	case r.URL.Path == "/" && same(r.URL.Query().Get("token"), d.token):
		http.SetCookie(w, &http.Cookie{Name: d.cookieName(), Value: d.cookie, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode})
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write([]byte(welcome)) // the browser is gone where it cannot be written
	case !d.knows(r):
		http.Error(w, "open the whole address that annex console printed, with its token", http.StatusForbidden)
	default:
		r.Header.Del("Cookie") // nobody behind the door needs it
		d.next.ServeHTTP(w, r)
	}
}

// knows says whether a request has the cookie.
func (d *door) knows(r *http.Request) bool {
	cookie, err := r.Cookie(d.cookieName())
	return err == nil && same(cookie.Value, d.cookie)
}

// same compares in a time that tells nothing.
func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
