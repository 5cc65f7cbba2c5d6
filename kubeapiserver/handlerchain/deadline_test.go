package handlerchain

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// A panic before an answer has begun is answered by the filter that recovers, with
// the outer filters' headers alone.
func TestHeadersOfAHandlerThatPanics(t *testing.T) {
	for _, begun := range []bool{false, true} {
		recorder := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		w := &deadlineWriter{ResponseWriter: recorder, ctx: r.Context(), reset: func(h http.Header) {
			clear(h)
			h.Set("Outer", "yes")
		}}
		w.Header().Set("Inner", "yes")
		if begun {
			w.WriteHeader(http.StatusOK)
		}
		if got := w.finish(r, "boom"); got != "boom" {
			t.Errorf("begun %t: the panic became %v", begun, got)
		}
		if inner, outer := recorder.Header().Get("Inner"), recorder.Header().Get("Outer"); (inner == "yes") != begun || (outer == "yes") == begun {
			t.Errorf("begun %t: headers %v", begun, recorder.Header())
		}
	}
}
