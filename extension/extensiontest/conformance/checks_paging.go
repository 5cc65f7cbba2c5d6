package conformance

import (
	"context"
	"encoding/base64"
	"maps"
	"net/http"
	"slices"
	"strings"
)

func pagingChecks() []Check {
	const source = concepts + "#retrieving-large-results-sets-in-chunks"
	return []Check{
		{
			ID:      "list/paging",
			Promise: "Pages of a list show each object once, all at one resourceVersion, also while others are written.",
			Source:  source,
			Faults:  []int{3},
			Needs:   []Need{Writable, Verb("list")},
			Run:     checkPaging,
		},
		{
			ID:      "list/continue",
			Promise: "A continue token that is none is answered 400; one that is too old 410.",
			Source:  source,
			Faults:  []int{3},
			Needs:   []Need{Verb("list")},
			Run:     checkContinue,
		},
	}
}

func keys(m map[string]bool) string { return strings.Join(slices.Sorted(maps.Keys(m)), ", ") }

func checkPaging(ctx context.Context, t *T) {
	const objects, limit = 20, "3"
	want := map[string]bool{}
	for range objects {
		want[t.create(ctx).GetName()] = true
	}
	page := t.list(ctx, "limit", limit)
	if page.next == "" {
		if len(page.items) >= objects {
			t.notApplicable("the server gives all at once, which it may")
		}
		t.fatalf(page.Exchange, "a page of %d of %d objects has no continue token", len(page.items), objects)
	}
	version := page.version
	seen := map[string]bool{}
	for pages := 1; ; pages++ {
		if page.version != version {
			t.fatalf(page.Exchange, "page %d has resourceVersion %s, the first %s", pages, page.version, version)
		}
		if page.next != "" && page.remaining != nil && *page.remaining < 1 {
			t.failf(page.Exchange, "remainingItemCount is %d though there is a continue token", *page.remaining)
		}
		for _, item := range t.own(page) {
			if seen[item.GetName()] {
				t.failf(page.Exchange, "page %d shows %s again", pages, item.GetName())
			}
			seen[item.GetName()] = true
		}
		if page.next == "" {
			break
		}
		if pages > objects+10 {
			t.fatalf(page.Exchange, "after %d pages there is still a continue token", pages)
		}
		if pages == 1 {
			t.create(ctx) // is not a part of this list
		}
		page = t.list(ctx, "limit", limit, "continue", page.next)
	}
	if !maps.Equal(seen, want) {
		t.failf(page.Exchange, "the pages showed %s; want %s", keys(seen), keys(want))
	}
}

func checkContinue(ctx context.Context, t *T) {
	t.refused(t.listAnswer(ctx, "limit", "3", "continue", "made up"), http.StatusBadRequest, "")
	// A token of Kubernetes' own form at the beginning of time: too old, unless the server remembers all
	// or has tokens of another form.
	old := base64.RawURLEncoding.EncodeToString([]byte(`{"v":"meta.k8s.io/v1","rv":1,"start":"a\u0000"}`))
	a := t.want(t.listAnswer(ctx, "limit", "3", "continue", old), http.StatusOK, http.StatusBadRequest, http.StatusGone)
	if a.Code != http.StatusOK {
		t.status(a)
	}
}
