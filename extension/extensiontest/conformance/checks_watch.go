package conformance

import (
	"context"
	"net/http"
	"strconv"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

const (
	watchSource  = concepts + "#efficient-detection-of-changes"
	watchVersion = concepts + "#semantics-for-watch"
)

func watchChecks() []Check {
	return []Check{
		{
			ID:      "watch/from-rv",
			Promise: "A watch from a list's resourceVersion shows exactly what was written after it, and replays nothing.",
			Source:  watchSource,
			Faults:  []int{2},
			Needs:   []Need{Writable, Watchable},
			Run:     checkWatchFromVersion,
		},
		{
			ID:      "watch/from-zero",
			Promise: "A watch without a resourceVersion, or with 0, begins with an ADDED for each object, and goes on with events.",
			Source:  watchVersion,
			Faults:  []int{2},
			Needs:   []Need{Writable, Watchable},
			Run:     checkWatchFromZero,
		},
		{
			ID:      "watch/order",
			Promise: "A watch shows every change once, in order, with growing resourceVersions.",
			Source:  watchSource,
			Faults:  []int{1, 3, 5},
			Needs:   []Need{Writable, Watchable},
			Within:  time.Minute,
			Run:     checkWatchOrder,
		},
		{
			ID:      "watch/deleted-object",
			Promise: "DELETED carries the whole object as it last was, with a resourceVersion of the deletion.",
			Source:  metaTypes + "WatchEvent, and " + watchSource,
			Faults:  []int{4},
			Needs:   []Need{Writable, Watchable},
			Run:     checkDeletedObject,
		},
		{
			ID:      "watch/timeout",
			Promise: "A watch with timeoutSeconds ends cleanly after that time.",
			Source:  metaTypes + "ListOptions.TimeoutSeconds",
			Faults:  []int{5},
			Needs:   []Need{Watchable},
			Run:     checkWatchTimeout,
		},
	}
}

func checkWatchFromVersion(ctx context.Context, t *T) {
	before := []string{t.create(ctx).GetName(), t.create(ctx).GetName()}
	version := t.now(ctx)
	w := t.watching(ctx, "resourceVersion", version)
	var want []string
	for range 3 {
		want = append(want, t.create(ctx).GetName())
	}
	count := 0
	seen, _ := w.until(ctx, soon, func(e event) bool {
		if e.kind == added && e.object.GetName() == want[count] {
			count++
		}
		return count == len(want)
	})
	seen = t.ownEvents(w, append(seen, w.during(ctx, 300*time.Millisecond)...))
	for _, e := range seen {
		if e.object.GetName() == before[0] || e.object.GetName() == before[1] {
			t.fatalf(w.exchange(), "%v was there at resourceVersion %s, from which the watch begins, and is replayed", e, version)
		}
	}
	if count != len(want) || len(seen) != len(want) {
		t.failf(w.exchange(), "the watch showed %s; want ADDED of %v and nothing else", describe(seen), want)
	}
}

func checkWatchFromZero(ctx context.Context, t *T) {
	a, b := t.create(ctx), t.create(ctx)
	for _, pairs := range [][]string{nil, {"resourceVersion", "0"}} {
		w := t.watching(ctx, pairs...)
		missing := map[string]bool{a.GetName(): true, b.GetName(): true}
		seen, ok := w.until(ctx, soon, func(e event) bool {
			if e.kind == added {
				delete(missing, e.object.GetName())
			}
			return len(missing) == 0
		})
		if !ok {
			t.fatalf(w.exchange(), "no ADDED of %s, which existed, came within %v; it saw: %s", keys(missing), soon, describe(t.ownEvents(w, seen)))
		}
		t.await(ctx, w, added, t.create(ctx))
		w.stop()
	}
}

const (
	orderChanges = 200
	orderObjects = 4
	orderLimit   = 45 * time.Second
	// roundAnnotation counts the changes of an object.
	roundAnnotation = "annex-conformance/round"
)

func checkWatchOrder(ctx context.Context, t *T) {
	var objects [orderObjects]string
	list := t.list(ctx)
	w := t.watching(ctx, "resourceVersion", list.version)
	writer := make(chan string, 1)
	var writing sync.WaitGroup
	defer writing.Wait()
	writes, stop := context.WithCancel(ctx)
	defer stop()
	writing.Go(func() { writer <- t.writeRounds(writes, objects[:]) })
	rounds := map[string]int{}
	last := list.version
	changes := 0
	seen, ok := w.until(ctx, orderLimit, func(e event) bool {
		if e.kind != bookmark && !t.mine(e.object) {
			return e.kind == failed
		}
		version := e.object.GetResourceVersion()
		if !t.newer(w.exchange(), version, last) {
			t.failf(w.exchange(), "%v does not come after resourceVersion %s, the one before", e, last)
			return true
		}
		last = version
		if e.kind == bookmark {
			return false
		}
		round, _ := strconv.Atoi(e.object.GetAnnotations()[roundAnnotation]) // 0 at its creation
		if want, known := rounds[e.object.GetName()]; known && round != want+1 {
			t.failf(w.exchange(), "%v shows change %d of the object, want %d", e, round, want+1)
			return true
		}
		rounds[e.object.GetName()] = round
		changes++
		return changes == orderChanges+orderObjects
	})
	if t.failed() {
		return
	}
	if problem := <-writer; problem != "" {
		t.fatalf(nil, "%s", problem)
	}
	if !ok {
		t.failf(w.exchange(), "%d of %d changes were seen within %v, the last: %s", changes, orderChanges+orderObjects, orderLimit, describe(seen[max(0, len(seen)-1):]))
	}
}

// writeRounds makes objects and changes them in turn. It gives what went wrong.
func (t *T) writeRounds(ctx context.Context, names []string) string {
	for i := range names {
		o := t.object()
		names[i] = o.GetName()
		for round := range orderChanges/orderObjects + 1 {
			r := t.posting(o)
			if round > 0 {
				o.SetAnnotations(map[string]string{roundAnnotation: strconv.Itoa(round)})
				r = t.putting(o, "")
			}
			a, err := try(ctx, t.admin, r)
			if err != nil {
				return "a write got no answer: " + err.Error()
			}
			stored, err := parse(a.raw)
			if err != nil || a.Code/100 != 2 {
				return "a write was answered " + code(a.Code) + saying(a.raw)
			}
			o = stored
		}
	}
	return ""
}

func checkDeletedObject(ctx context.Context, t *T) {
	o := t.create(ctx)
	last := t.relabel(ctx, o, "last", "true")
	w := t.watching(ctx, "resourceVersion", last.GetResourceVersion())
	t.delete(ctx, last)
	events := t.await(ctx, w, deleted, o)
	got := events[len(events)-1].object
	if !same(got, last) || got.GetUID() != last.GetUID() || got.GetLabels()["last"] != "true" {
		t.failf(w.exchange(), "DELETED does not carry the object as it was: %s", body(got.Object))
	}
	if got.GetResourceVersion() == "" || !t.newer(w.exchange(), got.GetResourceVersion(), last.GetResourceVersion()) {
		t.failf(w.exchange(), "DELETED has resourceVersion %q, not above %s of the last change: a client that resumes from it sees the deletion again", got.GetResourceVersion(), last.GetResourceVersion())
	}
}

func checkWatchTimeout(ctx context.Context, t *T) {
	const seconds = 2
	version := t.now(ctx)
	w := t.watching(ctx, "resourceVersion", version, "timeoutSeconds", strconv.Itoa(seconds))
	if !w.ended(ctx, (seconds+6)*time.Second) {
		t.fatalf(w.exchange(), "the watch is open %v after it began, with timeoutSeconds=%d", time.Since(w.began).Round(time.Second), seconds)
	}
	if took := time.Since(w.began); took < seconds*time.Second-200*time.Millisecond {
		t.failf(w.exchange(), "the watch ended after %v, with timeoutSeconds=%d", took.Round(time.Millisecond), seconds)
	}
	if w.err != nil {
		t.failf(w.exchange(), "the stream did not end cleanly: %v", w.err)
	}
}

func watchRefusalChecks() []Check {
	return []Check{
		{
			ID:      "watch/expired",
			Promise: "A watch from a resourceVersion that is too old is answered 410 Gone, as the answer or as the first event, an ERROR.",
			Source:  concepts + "#410-gone-responses",
			Faults:  []int{2, 3},
			Needs:   []Need{Watchable},
			Run:     checkWatchExpired,
		},
		{
			ID:      "watch/error-event",
			Promise: "After an ERROR event the stream ends.",
			Source:  metaTypes + "WatchEvent, and client-go's reflector",
			Faults:  []int{5},
			Needs:   []Need{Watchable},
			Run:     checkErrorEnds,
		},
		{
			ID:      "watch/garbage-rv",
			Promise: "A watch from a resourceVersion that is none is refused with a Status, and never granted.",
			Source:  watchVersion,
			Faults:  []int{3},
			Needs:   []Need{Watchable},
			Run: func(ctx context.Context, t *T) {
				w := t.watch(ctx, "resourceVersion", "abc", "timeoutSeconds", "5")
				if w.refused == nil {
					t.fatalf(w.exchange(), "the watch was granted from resourceVersion \"abc\"")
				}
				// The reference lets the parser's error through as 500.
				t.status(t.want(*w.refused, http.StatusBadRequest, http.StatusUnprocessableEntity, http.StatusInternalServerError))
			},
		},
	}
}

// expired opens a watch from the beginning of time and gives its first event, or none where it was
// refused as a whole.
func (t *T) expired(ctx context.Context) (*watch, *event) {
	w := t.watch(ctx, "resourceVersion", "1", "timeoutSeconds", "5")
	if w.refused != nil {
		return w, nil
	}
	events, ok := w.until(ctx, 3*time.Second, func(event) bool { return true })
	if !ok {
		return w, &event{}
	}
	return w, &events[0]
}

func checkWatchExpired(ctx context.Context, t *T) {
	// A server may remember all from its first day on. It shows what is gone by now, too.
	var past *unstructured.Unstructured
	if t.subject.unmet(Writable, t.target) == "" {
		past = t.create(ctx)
		t.delete(ctx, past)
		t.create(ctx)
	}
	w, first := t.expired(ctx)
	switch {
	case first == nil:
		t.refused(*w.refused, http.StatusGone, "")
		return
	case first.kind == "":
		t.fatalf(w.exchange(), "the watch from resourceVersion 1 was granted and stays silent: its client believes to know all")
	case first.kind != failed:
		t.remembers(ctx, w, *first, past)
	}
	if n, _ := number(first.object.Object["code"]); n != http.StatusGone {
		t.failf(w.exchange(), "the ERROR event has code %v, want %d", first.object.Object["code"], http.StatusGone)
	}
	if reason := first.object.Object["reason"]; reason != string(metav1.StatusReasonExpired) && reason != string(metav1.StatusReasonGone) {
		t.failf(w.exchange(), "the ERROR event has reason %q, want %q or %q", reason, metav1.StatusReasonExpired, metav1.StatusReasonGone)
	}
}

// remembers ends the check: it does not apply to a server that knows its whole history.
func (t *T) remembers(ctx context.Context, w *watch, first event, past *unstructured.Unstructured) {
	if past == nil {
		t.notApplicable("the server may remember all since resourceVersion 1; nothing can be created to find out")
	}
	shown := func(e event) bool { return e.object.GetUID() == past.GetUID() }
	if _, ok := w.until(ctx, 3*time.Second, shown); ok || shown(first) {
		t.notApplicable("the server remembers all since resourceVersion 1")
	}
	t.fatalf(w.exchange(), "the watch from resourceVersion 1 began with %v, and did not show what was created and deleted since: it replays what is there", first)
}

func checkErrorEnds(ctx context.Context, t *T) {
	w, first := t.expired(ctx)
	if first == nil || first.kind != failed {
		t.notApplicable("no watch could be made to fail with an ERROR event")
	}
	begin := time.Now()
	if !w.ended(ctx, 3*time.Second) {
		t.failf(w.exchange(), "the watch is open %v after its ERROR event", time.Since(begin).Round(time.Second))
	}
}
