package conformance

import (
	"context"
	"io"
	"net/http"
	"strings"
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
	r := t.posting(t.object())
	rest, stall := io.Pipe()
	defer stall.Close()
	r.stream, r.body = io.MultiReader(strings.NewReader(string(r.body[:20])), rest), nil
	type outcome struct {
		answer
		err error
	}
	done := make(chan outcome, 1)
	bounded, cancel := context.WithTimeout(ctx, slowLimit)
	defer cancel()
	go func() {
		a, err := t.admin.do(bounded, r)
		done <- outcome{a, err}
	}()
	t.delete(ctx, t.create(ctx))
	o := <-done
	switch {
	case bounded.Err() != nil:
		t.failf(o.Exchange, "the server still waits for the body after %v", slowLimit)
	case o.err == nil && o.Code/100 == 2:
		t.failf(o.Exchange, "half an object was answered %s", code(o.Code))
	}
}
