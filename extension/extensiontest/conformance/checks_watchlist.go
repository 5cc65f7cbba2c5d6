package conformance

import (
	"context"
	"net/http"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func watchListChecks() []Check {
	const source = keps + "sig-api-machinery/3157-watch-list"
	return []Check{
		{
			ID:      "watch/initial-events-end",
			Promise: "A watch with sendInitialEvents shows each object as ADDED, then one bookmark with the annotation k8s.io/initial-events-end, then events.",
			Source:  source,
			Faults:  []int{1},
			Needs:   []Need{Writable, Watchable},
			Run:     checkInitialEventsEnd,
		},
		{
			ID:      "watch/initial-events-once",
			Promise: "Of all bookmarks of a watch, one has the annotation k8s.io/initial-events-end.",
			Source:  source,
			Faults:  []int{1},
			Needs:   []Need{Writable, Watchable},
			Slow:    true,
			Within:  2 * time.Minute,
			Run:     checkInitialEventsOnce,
		},
		{
			ID:      "watch/list-equals-watchlist",
			Promise: "What a watch with sendInitialEvents gave before its bookmark is what a list at the bookmark's resourceVersion gives.",
			Source:  source,
			Faults:  []int{1},
			Needs:   []Need{Writable, Watchable},
			Run:     checkListEqualsWatchList,
		},
		{
			ID:      "watch/bookmark-rv",
			Promise: "A bookmark has the kind and a resourceVersion, no object's name, and no annotation that was not asked for; a watch from it misses nothing.",
			Source:  concepts + "#watch-bookmarks",
			Faults:  []int{1, 2},
			Needs:   []Need{Writable, Watchable},
			Run:     checkBookmarks,
		},
	}
}

// watchList opens a watch that lists first. Where the server does not know that, the check does not
// apply: clients fall back to a list.
func (t *T) watchList(ctx context.Context, pairs ...string) *watch {
	all := append([]string{
		"sendInitialEvents", "true", "allowWatchBookmarks", "true", "resourceVersionMatch", string(metav1.ResourceVersionMatchNotOlderThan),
	}, pairs...)
	w := t.watch(ctx, all...)
	if w.refused != nil {
		switch w.refused.Code {
		case http.StatusUnprocessableEntity, http.StatusForbidden, http.StatusBadRequest:
			t.status(*w.refused)
			t.notApplicable("the server refuses sendInitialEvents, so that clients fall back to a list%s", saying(w.refused.raw))
		}
	}
	return t.granted(w)
}

// initial gives the objects before the bookmark that ends them, and its resourceVersion.
func (t *T) initial(ctx context.Context, w *watch) (map[string]string, string) {
	objects := map[string]string{}
	events, ok := w.until(ctx, soon, isEnd)
	for _, e := range events {
		switch {
		case e.kind == added:
			if _, twice := objects[e.object.GetNamespace()+"/"+e.object.GetName()]; twice {
				t.failf(w.exchange(), "%v came twice before the bookmark", e)
			}
			objects[e.object.GetNamespace()+"/"+e.object.GetName()] = e.object.GetResourceVersion()
		case e.kind != bookmark:
			t.failf(w.exchange(), "%v came before the bookmark that ends the initial events", e)
		}
	}
	if !ok {
		t.fatalf(w.exchange(), "no bookmark with the annotation %s=true came within %v: a client waits for it for ever", metav1.InitialEventsAnnotationKey, soon)
	}
	end := events[len(events)-1]
	t.wellFormed(w.exchange(), "the bookmark", end.object.GetResourceVersion())
	return objects, end.object.GetResourceVersion()
}

func checkInitialEventsEnd(ctx context.Context, t *T) {
	want := map[string]string{}
	for range 5 {
		o := t.create(ctx)
		want[o.GetNamespace()+"/"+o.GetName()] = o.GetResourceVersion()
	}
	w := t.watchList(ctx)
	got, _ := t.initial(ctx, w)
	for name, version := range want {
		if got[name] != version {
			t.failf(w.exchange(), "%s, at resourceVersion %s, is not among the initial events (there: %q)", name, version, got[name])
		}
	}
	live := t.create(ctx)
	for _, e := range t.await(ctx, w, added, live) {
		if e.object.GetName() != live.GetName() {
			t.failf(w.exchange(), "%v came after the bookmark that ends the initial events", e)
		}
	}
}

func checkInitialEventsOnce(ctx context.Context, t *T) {
	const seconds = 80 // bookmarks come about once a minute, and before the end
	w := t.watchList(ctx, "timeoutSeconds", strconv.Itoa(seconds))
	t.initial(ctx, w)
	t.create(ctx)
	bookmarks := 0
	for _, e := range w.during(ctx, (seconds+5)*time.Second) {
		if e.kind == bookmark {
			bookmarks++
		}
		if isEnd(e) {
			t.failf(w.exchange(), "another bookmark has the annotation, at resourceVersion %s", e.object.GetResourceVersion())
		}
	}
	if bookmarks == 0 {
		t.notApplicable("no further bookmark came within %ds; none is promised", seconds)
	}
}

func checkListEqualsWatchList(ctx context.Context, t *T) {
	for range 3 {
		t.create(ctx)
	}
	t.delete(ctx, t.create(ctx))
	w := t.watchList(ctx)
	got, version := t.initial(ctx, w)
	l := t.list(ctx, "resourceVersion", version, "resourceVersionMatch", "NotOlderThan")
	want := map[string]string{}
	for _, item := range t.own(l) {
		want[item.GetNamespace()+"/"+item.GetName()] = item.GetResourceVersion()
	}
	for name, version := range want {
		if got[name] != version {
			t.failf(w.exchange(), "the list has %s at resourceVersion %s, the initial events have it at %q", name, version, got[name])
		}
		delete(got, name)
	}
	for _, item := range l.items {
		delete(got, item.GetNamespace()+"/"+item.GetName())
	}
	for name := range got {
		t.failf(w.exchange(), "the initial events have %s, the list has not", name)
	}
}

func checkBookmarks(ctx context.Context, t *T) {
	const seconds = 4 // the server sends one shortly before the end
	version := t.now(ctx)
	w := t.watching(ctx, "resourceVersion", version, "allowWatchBookmarks", "true", "timeoutSeconds", strconv.Itoa(seconds))
	t.create(ctx)
	var marks []event
	for _, e := range w.during(ctx, (seconds+4)*time.Second) {
		if e.kind == bookmark {
			marks = append(marks, e)
		}
	}
	if len(marks) == 0 {
		t.notApplicable("no bookmark came within %ds; none is promised", seconds)
	}
	for _, e := range marks {
		t.wellFormed(w.exchange(), "a bookmark", e.object.GetResourceVersion())
		if e.object.GetKind() != t.subject.kind {
			t.failf(w.exchange(), "a bookmark is of kind %q, want %q", e.object.GetKind(), t.subject.kind)
		}
		if e.object.GetName() != "" || e.object.GetUID() != "" {
			t.failf(w.exchange(), "a bookmark carries the object %q", e.object.GetName())
		}
		if isEnd(e) {
			t.failf(w.exchange(), "a bookmark of a watch without sendInitialEvents has the annotation %s", metav1.InitialEventsAnnotationKey)
		}
	}
	mark := marks[len(marks)-1].object.GetResourceVersion()
	missed := t.create(ctx)
	resumed := t.watching(ctx, "resourceVersion", mark)
	if events := t.await(ctx, resumed, added, missed); len(events) != 1 {
		t.failf(resumed.exchange(), "a watch from the bookmark's resourceVersion %s showed %s; want ADDED of %s alone", mark, describe(events), missed.GetName())
	}
}
