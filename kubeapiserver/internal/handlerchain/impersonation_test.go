package handlerchain

import (
	"net/http"
	"testing"
)

// Impersonation is asked for by each request anew, though the certificate of its
// connection is remembered.
func TestImpersonationOnARememberedConnection(t *testing.T) {
	w := newWorld(t, newIdentities(t), ours, nil)
	defer w.stop()
	w.warm(t)
	for _, proto := range []string{"h2", "http/1.1"} {
		w.inner.reset()
		conn := dial(t, w.address, proto, w.ids.shown["alice"])
		users := []string{"alice", "carol", "alice"}
		for _, u := range users {
			c := call{target: widget}
			if u != "alice" {
				c.header = with("Impersonate-User", u)
			}
			if a := conn.exchange(c.request(t.Context(), t)); a.Status != http.StatusOK {
				t.Errorf("%s: %s got %+v", proto, u, a)
			}
		}
		for i, s := range w.inner.all() {
			if s.User.GetName() != users[i] {
				t.Errorf("%s: request %d is of %s, want %s", proto, i, s.User.GetName(), users[i])
			}
		}
		conn.close()
	}
}
