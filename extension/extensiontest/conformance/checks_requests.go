package conformance

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

func requestChecks() []Check {
	return []Check{
		{
			ID:      "requests/huge",
			Promise: "A body of 4 MB is answered 413 with a Status, and the server goes on.",
			Source:  conventions + "#http-status-codes, and k8s.io/apiserver/pkg/server/config.go, MaxRequestBodyBytes",
			Needs:   []Need{Writable},
			Run: func(ctx context.Context, t *T) {
				o := t.object()
				o.SetAnnotations(map[string]string{"annex-conformance/padding": strings.Repeat("x", 4<<20)})
				r := t.posting(o)
				bounded, cancel := context.WithTimeout(ctx, requestLimit)
				defer cancel()
				a, err := t.admin.do(bounded, r)
				a.RequestBody = "(4 MB)"
				if err != nil {
					t.fatalf(a.Exchange, "there was no answer: %v", err)
				}
				t.status(t.want(a, http.StatusRequestEntityTooLarge))
				t.create(ctx)
			},
		},
		{
			ID:      "requests/slow-body",
			Promise: "A body that stops holds nobody else up, and the request is ended by the server.",
			Source:  "k8s.io/apiserver/pkg/server/config.go, RequestTimeout",
			Needs:   []Need{Writable},
			Slow:    true,
			Within:  2 * time.Minute,
			Run:     checkSlowBody,
		},
	}
}

// slowLimit is above the 60 seconds that a request may take by default.
const slowLimit = 90 * time.Second

func checkSlowBody(ctx context.Context, t *T) {
	if !t.multiplexed(ctx) {
		t.notApplicable("over HTTP/1.1 a client waits for its own body, and does not see that the server has ended the request")
	}
	r := t.posting(t.object())
	rest, stall := io.Pipe()
	defer stall.Close()
	r.stream, r.body = io.MultiReader(strings.NewReader(string(r.body[:20])), rest), nil
	done := make(chan *Exchange, 1)
	var sending sync.WaitGroup
	defer sending.Wait()
	bounded, cancel := context.WithTimeout(ctx, slowLimit)
	defer cancel()
	sending.Go(func() {
		// The header says it; the reference sends no end of the body while it waits for that of the request.
		resp, e, err := t.admin.open(bounded, r)
		if err == nil {
			stall.Close() // or else the client waits for the rest of the request
			resp.Body.Close()
		}
		done <- e
	})
	t.delete(ctx, t.create(ctx))
	e := <-done
	switch {
	case e.Code == 0 && bounded.Err() != nil:
		t.failf(e, "the server still waits for the body after %v", slowLimit)
	case e.Code/100 == 2:
		t.failf(e, "half an object was answered %s", code(e.Code))
	}
}

// multiplexed says whether the server is reached over HTTP/2.
func (t *T) multiplexed(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, requestLimit)
	defer cancel()
	resp, e, err := t.admin.open(ctx, request{method: http.MethodGet, path: root(t.subject.GroupVersion())})
	if err != nil {
		t.fatalf(e, "there was no answer: %v", err)
	}
	defer resp.Body.Close()
	return resp.ProtoMajor > 1
}
