package conformance

import (
	"context"
	"net/http"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func dryRunChecks() []Check {
	const source = concepts + "#dry-run"
	return []Check{
		{
			ID:      "dryrun/create",
			Promise: "A create with dryRun=All is answered as if it were real; nothing is stored, and no watcher hears of it.",
			Source:  source,
			Needs:   []Need{Writable, Watchable},
			Run: func(ctx context.Context, t *T) {
				w := t.watching(ctx, "resourceVersion", t.now(ctx))
				o := t.object()
				a := t.want(t.post(ctx, o, "dryRun", "All"), http.StatusCreated)
				if got := t.parsed(a); got.GetName() != o.GetName() || got.GetUID() == "" {
					t.failf(a.Exchange, "the answer is not the object that would have been made")
				}
				t.want(t.getAnswer(ctx, o), http.StatusNotFound)
				t.silent(ctx, w)
			},
		},
		{
			ID:      "dryrun/update",
			Promise: "An update or patch with dryRun=All is answered as if it were real; nothing is changed, and no watcher hears of it.",
			Source:  source,
			Needs:   []Need{Writable, Watchable},
			Run: func(ctx context.Context, t *T) {
				o := t.create(ctx)
				w := t.watching(ctx, "resourceVersion", o.GetResourceVersion())
				changed := o.DeepCopy()
				changed.SetLabels(map[string]string{ownLabel: t.slug(), "dry": "run"})
				answers := []answer{t.put(ctx, changed, "dryRun", "All")}
				if t.subject.verbs["patch"] {
					answers = append(answers, t.patch(ctx, o, mergePatch, map[string]any{"metadata": map[string]any{"labels": map[string]any{"dry": "run"}}}, "dryRun", "All"))
				}
				for _, a := range answers {
					if got := t.parsed(t.want(a, http.StatusOK)); got.GetLabels()["dry"] != "run" {
						t.failf(a.Exchange, "the answer does not show the change")
					}
				}
				t.unchanged(ctx, o)
				t.silent(ctx, w)
			},
		},
		{
			ID:      "dryrun/delete",
			Promise: "A deletion with dryRun=All is answered as if it were real; the object stays, and no watcher hears of it.",
			Source:  source,
			Needs:   []Need{Writable, Watchable},
			Run: func(ctx context.Context, t *T) {
				o := t.create(ctx)
				w := t.watching(ctx, "resourceVersion", o.GetResourceVersion())
				t.want(t.deleteAnswer(ctx, o, "dryRun", "All"), http.StatusOK, http.StatusAccepted)
				t.unchanged(ctx, o)
				t.silent(ctx, w)
			},
		},
	}
}

func (t *T) unchanged(ctx context.Context, o *unstructured.Unstructured) {
	a := t.want(t.getAnswer(ctx, o), http.StatusOK)
	if got := t.parsed(a); got.GetResourceVersion() != o.GetResourceVersion() {
		t.failf(a.Exchange, "the resourceVersion is %s, was %s before the dry run", got.GetResourceVersion(), o.GetResourceVersion())
	}
}

// silent fails where a watch shows anything of the check's before an object that is made now.
func (t *T) silent(ctx context.Context, w *watch) {
	if events := t.await(ctx, w, added, t.create(ctx)); len(events) != 1 {
		t.failf(w.exchange(), "a watcher was shown %s", describe(events[:len(events)-1]))
	}
}
