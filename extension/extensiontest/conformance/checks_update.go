package conformance

import (
	"context"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

const concurrency = conventions + "#concurrency-control-and-consistency"

// holdFinalizer keeps an object until it is taken off.
const holdFinalizer = "conformance.annex.dev/hold"

func updateChecks() []Check {
	return []Check{
		{
			ID:      "update/conflict",
			Promise: "A PUT of an outdated resourceVersion is answered 409 Conflict and changes nothing; a PUT without one is taken, or refused as the kind says.",
			Source:  concurrency,
			Faults:  []int{7},
			Needs:   []Need{Writable},
			Run:     checkConflict,
		},
		{
			ID:      "update/concurrent",
			Promise: "No update is lost: ten clients that increment a number ten times each, with a retry after a conflict, give 100.",
			Source:  concurrency,
			Faults:  []int{7},
			Needs:   []Need{Writable},
			Within:  time.Minute,
			Run:     checkConcurrent,
		},
		{
			ID:      "update/uid-changed",
			Promise: "A PUT with another uid is answered 409 Conflict, or 422: the object that was meant is gone.",
			Source:  conventions + "#metadata",
			Faults:  []int{7},
			Needs:   []Need{Writable},
			Run: func(ctx context.Context, t *T) {
				o := t.create(ctx)
				changed := o.DeepCopy()
				changed.SetUID("11111111-2222-3333-4444-555555555555")
				a := t.want(t.put(ctx, changed), http.StatusConflict, http.StatusUnprocessableEntity)
				t.status(a)
				if got := t.get(ctx, o); got.GetUID() != o.GetUID() {
					t.failf(a.Exchange, "the uid was changed to %s", got.GetUID())
				}
			},
		},
		{
			ID:      "update/immutable-meta",
			Promise: "A PUT cannot rename an object, and the creationTimestamp stays.",
			Source:  conventions + "#metadata",
			Faults:  []int{7},
			Needs:   []Need{Writable},
			Run:     checkImmutableMeta,
		},
		{
			ID:      "update/foreign-metadata",
			Promise: "Labels, annotations, owner references and finalizers of others survive a write of the spec.",
			Source:  conventions + "#metadata, and concurrency control there",
			Faults:  []int{7},
			Needs:   []Need{Writable, Changeable, Verb("patch")},
			Run:     checkForeignMetadata,
		},
		{
			ID:      "write/noop-keeps-version",
			Promise: "A write that changes nothing keeps the resourceVersion, by PUT, by each patch and by apply, and no watcher hears of it.",
			Source:  "k8s.io/apiserver/pkg/storage/etcd3/store.go, GuaranteedUpdate",
			Faults:  []int{15},
			Needs:   []Need{Writable, Verb("patch")},
			Run:     checkNoop,
		},
	}
}

func checkConflict(ctx context.Context, t *T) {
	old := t.create(ctx)
	current := t.relabel(ctx, old, "writer", "first")
	stale := old.DeepCopy()
	labels := stale.GetLabels()
	labels["writer"] = "second"
	stale.SetLabels(labels)
	t.refused(t.put(ctx, stale), http.StatusConflict, metav1.StatusReasonConflict)
	if got := t.get(ctx, old); got.GetResourceVersion() != current.GetResourceVersion() {
		t.failf(nil, "after the refused PUT the resourceVersion is %s, was %s", got.GetResourceVersion(), current.GetResourceVersion())
	}
	free := current.DeepCopy()
	free.SetResourceVersion("")
	a := t.put(ctx, free)
	switch a.Code {
	case http.StatusOK:
	case http.StatusConflict, http.StatusUnprocessableEntity, http.StatusBadRequest:
		t.status(a)
	default:
		t.failf(a.Exchange, "a PUT without a resourceVersion was answered %s, want 200, or 409, 422 or 400 where the kind asks for one", code(a.Code))
	}
}

func checkConcurrent(ctx context.Context, t *T) {
	const clients, increments = 10, 10
	o := t.create(ctx)
	problems := make(chan string, clients)
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for range increments {
				if problem := t.increment(ctx, o); problem != "" {
					problems <- problem
					return
				}
			}
		})
	}
	wg.Wait()
	close(problems)
	for problem := range problems {
		t.failf(nil, "%s", problem)
	}
	if t.failed() {
		return
	}
	a := t.getAnswer(ctx, o)
	if got := t.parsed(a).GetAnnotations()[roundAnnotation]; got != strconv.Itoa(clients*increments) {
		t.failf(a.Exchange, "%d increments gave %s: updates were lost", clients*increments, got)
	}
}

// increment reads, adds one and writes, again after a conflict. It gives what went wrong.
func (t *T) increment(ctx context.Context, of *unstructured.Unstructured) string {
	for range 200 {
		a, err := try(ctx, t.admin, request{method: http.MethodGet, path: t.path(of)})
		if err != nil {
			return "a read got no answer: " + err.Error()
		}
		o, err := parse(a.raw)
		if err != nil || a.Code != http.StatusOK {
			return "a read was answered " + code(a.Code) + saying(a.raw)
		}
		n, _ := strconv.Atoi(o.GetAnnotations()[roundAnnotation]) // 0 at first
		annotations := o.GetAnnotations()
		if annotations == nil {
			annotations = map[string]string{}
		}
		annotations[roundAnnotation] = strconv.Itoa(n + 1)
		o.SetAnnotations(annotations)
		a, err = try(ctx, t.admin, t.putting(o, ""))
		switch {
		case err != nil:
			return "a write got no answer: " + err.Error()
		case a.Code == http.StatusOK:
			return ""
		case a.Code != http.StatusConflict:
			return "a write was answered " + code(a.Code) + ", want 200 or 409" + saying(a.raw)
		}
		if !pause(ctx, time.Duration(rand.IntN(20))*time.Millisecond) {
			break
		}
	}
	return "a client had no success in 200 tries"
}

func checkImmutableMeta(ctx context.Context, t *T) {
	o := t.create(ctx)
	renamed := o.DeepCopy()
	renamed.SetName(t.name())
	t.willMake(o.GetNamespace(), renamed.GetName())
	r := t.putting(renamed, "")
	r.path = t.path(o)
	t.status(t.want(t.do(ctx, r), http.StatusBadRequest, http.StatusUnprocessableEntity))
	older := o.DeepCopy()
	older.SetCreationTimestamp(metav1.NewTime(time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)))
	a := t.put(ctx, older)
	if a.Code != http.StatusOK {
		t.clientError(a)
	}
	if got := t.get(ctx, o); got.GetCreationTimestamp() != o.GetCreationTimestamp() {
		t.failf(a.Exchange, "the creationTimestamp was changed to %v", got.GetCreationTimestamp())
	}
}

func checkForeignMetadata(ctx context.Context, t *T) {
	o := t.create(ctx)
	metadata := map[string]any{
		"labels":      map[string]any{"foreign.example.com/label": "kept"},
		"annotations": map[string]any{"foreign.example.com/annotation": "kept"},
		"finalizers":  []any{holdFinalizer},
	}
	if owner := t.owner(ctx); owner != nil {
		metadata["ownerReferences"] = []any{owner}
	}
	foreign := t.merge(ctx, o, map[string]any{"metadata": metadata})
	t.keeps(foreign, foreign, "the patch that set them")
	written := t.changeTo(ctx, foreign, 1)
	t.keeps(written, foreign, "a PUT of the changed spec")
	t.keeps(t.get(ctx, o), foreign, "a PUT of the changed spec, read again")
	patched := t.merge(ctx, o, nested(t.subject.change.path, t.subject.change.value(0)))
	t.keeps(patched, foreign, "a merge patch of the spec")
}

// owner is a reference to the kit's namespace: an owner that does not exist has its object collected. Where
// there are no namespaces nobody collects.
func (t *T) owner(ctx context.Context) map[string]any {
	if !t.subject.namespaced {
		return nil
	}
	if t.subject.noNamespaces {
		return map[string]any{"apiVersion": "v1", "kind": "Namespace", "name": t.subject.namespace, "uid": "not-made"}
	}
	n := t.parsed(t.want(t.do(ctx, request{method: http.MethodGet, path: namespaces + "/" + t.subject.namespace}), http.StatusOK))
	return map[string]any{"apiVersion": "v1", "kind": "Namespace", "name": n.GetName(), "uid": string(n.GetUID())}
}

// keeps fails where metadata of others was lost.
func (t *T) keeps(got, want *unstructured.Unstructured, after string) {
	lost := func(what string) { t.failf(nil, "after %s, %s is lost", after, what) }
	if got.GetLabels()["foreign.example.com/label"] != "kept" {
		lost("the label foreign.example.com/label")
	}
	if got.GetAnnotations()["foreign.example.com/annotation"] != "kept" {
		lost("the annotation foreign.example.com/annotation")
	}
	if !slices.Contains(got.GetFinalizers(), holdFinalizer) {
		lost("the finalizer " + holdFinalizer)
	}
	if len(got.GetOwnerReferences()) != len(want.GetOwnerReferences()) {
		lost("the owner reference")
	}
}

func checkNoop(ctx context.Context, t *T) {
	o := t.create(ctx)
	w := &watch{}
	watches := t.subject.unmet(Watchable, t.target) == ""
	if watches {
		w = t.watching(ctx, "resourceVersion", o.GetResourceVersion())
	}
	kept := func(how string, a answer) {
		if a.Code == http.StatusUnsupportedMediaType {
			return // the check of that patch says so
		}
		got := t.parsed(t.want(a, http.StatusOK))
		if got.GetResourceVersion() != o.GetResourceVersion() {
			t.failf(a.Exchange, "%s without a change gave resourceVersion %s, was %s", how, got.GetResourceVersion(), o.GetResourceVersion())
			o = got
		}
	}
	kept("a PUT", t.put(ctx, o))
	kept("a merge patch", t.patch(ctx, o, mergePatch, map[string]any{"metadata": map[string]any{"labels": map[string]any{ownLabel: t.slug()}}}))
	kept("a JSON patch", t.patch(ctx, o, jsonPatch, []any{map[string]any{"op": "replace", "path": "/metadata/labels", "value": o.GetLabels()}}))
	if watches {
		last := t.create(ctx)
		if events := t.await(ctx, w, added, last); len(events) > 1 && !t.failed() {
			t.failf(w.exchange(), "writes that changed nothing were shown to a watcher: %s", describe(events))
		}
	}
	config := t.configuration(o, "label", "x")
	first := t.apply(ctx, config, "kit")
	if first.Code != http.StatusOK {
		return // the checks of apply say so
	}
	o = t.parsed(first)
	kept("an apply of the same", t.apply(ctx, config, "kit"))
}

func fieldValidationChecks() []Check {
	return []Check{{
		ID:      "update/unknown-field",
		Promise: "An unknown field is refused with fieldValidation=Strict, named in a Warning header with Warn, and dropped with Ignore.",
		Source:  concepts + "#validation-for-unrecognized-or-duplicate-fields",
		Needs:   []Need{Writable},
		Run:     checkUnknownField,
	}}
}

func checkUnknownField(ctx context.Context, t *T) {
	const field = "annexConformanceUnknown"
	with := func() *unstructured.Unstructured {
		o := t.object()
		o.Object[field] = "x"
		return o
	}
	strict := with()
	a := t.want(t.post(ctx, strict, "fieldValidation", "Strict"), http.StatusBadRequest, http.StatusUnprocessableEntity)
	if s := t.status(a); !strings.Contains(s.Message, field) {
		t.failf(a.Exchange, "the message does not name the field %s", field)
	}
	t.want(t.getAnswer(ctx, strict), http.StatusNotFound)
	a = t.want(t.post(ctx, with(), "fieldValidation", "Warn"), http.StatusCreated)
	if warning := strings.Join(a.Header.Values("Warning"), " "); !strings.Contains(warning, field) {
		t.failf(a.Exchange, "no Warning header names the field %s: %q", field, warning)
	}
	a = t.want(t.post(ctx, with(), "fieldValidation", "Ignore"), http.StatusCreated)
	if warning := a.Header.Get("Warning"); strings.Contains(warning, field) {
		t.failf(a.Exchange, "there is a Warning header with fieldValidation=Ignore: %q", warning)
	}
	if _, ok := t.parsed(a).Object[field]; ok {
		t.failf(a.Exchange, "the unknown field was stored")
	}
	t.want(t.post(ctx, t.object(), "fieldValidation", "Sometimes"), http.StatusBadRequest, http.StatusUnprocessableEntity)
}
