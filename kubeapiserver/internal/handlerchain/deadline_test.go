package handlerchain

import (
	"net/http"
	"net/http/httptest"
	"testing"

	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
)

// TestSameAnswersToPanics has panics answered, as an embedding program may have
// it, and not only logged before the connection breaks.
func TestSameAnswersToPanics(t *testing.T) {
	before := utilruntime.ReallyCrash
	utilruntime.ReallyCrash = false
	t.Cleanup(func() { utilruntime.ReallyCrash = before }) // when the servers have ended
	ids := newIdentities(t)
	p := pair{newWorld(t, ids, reference, everything), newWorld(t, ids, ours, everything)}
	defer p.stop()
	p.warm(t)
	for _, steps := range []string{"panic", "header:one replace warn:care panic", "status:201 panic", "write panic", "header:one write flush panic", "abort"} {
		p.compare(t, setting{both: true}, call{name: steps, target: widget, as: "alice", header: does(steps)})
	}
	if a := p.ours.observe(t, "h2", call{target: widget, as: "alice", header: does("panic")}, nil).Answers[0]; a.Status != http.StatusInternalServerError {
		t.Errorf("a panic is answered with %+v", a)
	}
}

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
