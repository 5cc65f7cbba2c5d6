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
			Promise: "A continue token that is none is answered 400, or with the whole list by a server without pages; one that is too old 410.",
			Source:  source + ", and " + metaTypes + "ListOptions.Limit and ListOptions.Continue",
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
	a := t.want(t.listAnswer(ctx, "limit", "3", "continue", "made up"), http.StatusBadRequest, http.StatusOK)
	if a.Code == http.StatusOK {
		if t.pages(ctx, t.listed(a)) {
			t.failf(a.Exchange, "a continue token that is none is answered with a list: its client takes that for the next page")
		}
		return
	}
	t.status(a)
	// A token of Kubernetes' own form at the beginning of time: too old, unless the server remembers all
	// or has tokens of another form.
	old := base64.RawURLEncoding.EncodeToString([]byte(`{"v":"meta.k8s.io/v1","rv":1,"start":"a\u0000"}`))
	a = t.want(t.listAnswer(ctx, "limit", "3", "continue", old), http.StatusOK, http.StatusBadRequest, http.StatusGone)
	if a.Code != http.StatusOK {
		t.status(a)
	}
}

// pages says whether the server has pages: whether a limit is kept. Where nothing can be made, what is
// there has to do.
func (t *T) pages(ctx context.Context, whole list) bool {
	if whole.next != "" {
		return true
	}
	writable := t.subject.unmet(Writable, t.target) == ""
	if writable {
		t.create(ctx)
		t.create(ctx)
	}
	l := t.list(ctx, "limit", "1")
	if l.next == "" && writable && len(t.own(l)) != 2 {
		t.failf(l.Exchange, "the list has %d of the 2 objects that were created, and no continue token", len(t.own(l)))
	}
	return l.next != ""
}
