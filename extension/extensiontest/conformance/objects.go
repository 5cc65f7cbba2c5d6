package conformance

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/resourceversion"
)

// The media types of patches.
const (
	mergePatch     = "application/merge-patch+json"
	jsonPatch      = "application/json-patch+json"
	strategicPatch = "application/strategic-merge-patch+json"
	applyPatch     = "application/apply-patch+yaml"
)

// ownLabel marks what a check makes; its value is the check.
const ownLabel = "annex-conformance"

// query makes a query of names and values in turn.
func query(pairs ...string) url.Values {
	q := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		q.Set(pairs[i], pairs[i+1])
	}
	return q
}

// slug is the check's ID as a part of names and label values.
func (t *T) slug() string { return strings.ReplaceAll(t.check.ID, "/", "-") }

// prefix begins the names of all objects of the check.
func (t *T) prefix() string {
	if t.subject.namespaced {
		return t.slug() + "-"
	}
	return t.subject.prefix + "-" + t.slug() + "-"
}

// name is a new one.
func (t *T) name() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.names++
	return fmt.Sprintf("%s%02d", t.prefix(), t.names)
}

// mine says whether the check has made an object.
func (t *T) mine(o *unstructured.Unstructured) bool {
	return strings.HasPrefix(o.GetName(), t.prefix()) && (o.GetNamespace() == "" || strings.HasPrefix(o.GetNamespace(), t.subject.prefix))
}

// selector selects the check's own objects.
func (t *T) selector() string { return ownLabel + "=" + t.slug() }

// object is a new one, not created yet.
func (t *T) object() *unstructured.Unstructured {
	o := &unstructured.Unstructured{Object: t.subject.newSample()}
	o.SetName(t.name())
	if t.subject.namespaced {
		o.SetNamespace(t.subject.namespace)
	}
	labels := o.GetLabels()
	if labels == nil {
		labels = map[string]string{}
	}
	labels[ownLabel] = t.slug()
	o.SetLabels(labels)
	return o
}

// body is an object as JSON.
func body(v any) []byte {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("encode what was made of JSON: %v", err)) // maps, slices and scalars only
	}
	return raw
}

// post sends an object, which is removed after the check whatever the answer says.
func (t *T) post(ctx context.Context, o *unstructured.Unstructured, pairs ...string) answer {
	return t.do(ctx, t.posting(o, pairs...))
}

func (t *T) posting(o *unstructured.Unstructured, pairs ...string) request {
	t.willMake(o.GetNamespace(), o.GetName())
	return request{method: http.MethodPost, path: t.subject.path(o.GetNamespace(), ""), query: query(pairs...), body: body(o.Object)}.with("Content-Type", "application/json")
}

// willMake remembers what is to be removed after the check.
func (t *T) willMake(namespace, name string) {
	if name == "" {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.made = append(t.made, made{namespace, name})
}

// create makes a new object and ends the check where it cannot be made.
func (t *T) create(ctx context.Context) *unstructured.Unstructured {
	return t.createThis(ctx, t.object())
}

func (t *T) createThis(ctx context.Context, o *unstructured.Unstructured) *unstructured.Unstructured {
	return t.parsed(t.want(t.post(ctx, o), http.StatusCreated))
}

func (t *T) path(o *unstructured.Unstructured) string {
	return t.subject.path(o.GetNamespace(), o.GetName())
}

func (t *T) getAnswer(ctx context.Context, o *unstructured.Unstructured) answer {
	return t.do(ctx, request{method: http.MethodGet, path: t.path(o)})
}

// get reads an object again.
func (t *T) get(ctx context.Context, o *unstructured.Unstructured) *unstructured.Unstructured {
	return t.parsed(t.want(t.getAnswer(ctx, o), http.StatusOK))
}

// put writes an object whole.
func (t *T) put(ctx context.Context, o *unstructured.Unstructured, pairs ...string) answer {
	return t.do(ctx, t.putting(o, "", pairs...))
}

func (t *T) putting(o *unstructured.Unstructured, subresource string, pairs ...string) request {
	r := request{method: http.MethodPut, path: t.path(o) + subresource, query: query(pairs...), body: body(o.Object)}
	return r.with("Content-Type", "application/json")
}

func (t *T) update(ctx context.Context, o *unstructured.Unstructured) *unstructured.Unstructured {
	return t.parsed(t.want(t.put(ctx, o), http.StatusOK))
}

// patch sends a patch; v is its JSON.
func (t *T) patch(ctx context.Context, o *unstructured.Unstructured, media string, v any, pairs ...string) answer {
	return t.do(ctx, t.patching(o, media, v, pairs...))
}

func (t *T) patching(o *unstructured.Unstructured, media string, v any, pairs ...string) request {
	r := request{method: http.MethodPatch, path: t.path(o), query: query(pairs...), body: body(v)}
	return r.with("Content-Type", media)
}

// merge changes an object by a merge patch and gives what is stored then.
func (t *T) merge(ctx context.Context, o *unstructured.Unstructured, v any) *unstructured.Unstructured {
	return t.parsed(t.want(t.patch(ctx, o, mergePatch, v), http.StatusOK))
}

// relabel sets labels by a full update: that is what every server can do.
func (t *T) relabel(ctx context.Context, o *unstructured.Unstructured, pairs ...string) *unstructured.Unstructured {
	o = o.DeepCopy()
	labels := o.GetLabels()
	if labels == nil {
		labels = map[string]string{}
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		labels[pairs[i]] = pairs[i+1]
	}
	o.SetLabels(labels)
	return t.update(ctx, o)
}

func (t *T) deleteAnswer(ctx context.Context, o *unstructured.Unstructured, pairs ...string) answer {
	return t.do(ctx, request{method: http.MethodDelete, path: t.path(o), query: query(pairs...)})
}

// delete removes an object and waits until it is gone.
func (t *T) delete(ctx context.Context, o *unstructured.Unstructured) answer {
	a := t.want(t.deleteAnswer(ctx, o, "gracePeriodSeconds", "0"), http.StatusOK, http.StatusAccepted)
	t.eventually(ctx, 10*time.Second, func() (*Exchange, string) {
		got := t.getAnswer(ctx, o)
		if got.Code == http.StatusNotFound {
			return nil, ""
		}
		return got.Exchange, fmt.Sprintf("a deleted object without finalizers is still there: %s", code(got.Code))
	})
	return a
}

// eventually asks again until nothing is missing; else the last that was missing is a failure that ends
// the check.
func (t *T) eventually(ctx context.Context, within time.Duration, missing func() (*Exchange, string)) {
	deadline := time.Now().Add(within)
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, 500*time.Millisecond) {
		e, what := missing()
		if what == "" {
			return
		}
		if time.Now().After(deadline) || !pause(ctx, wait) {
			t.fatalf(e, "%s, after %v", what, within)
		}
	}
}

// list is one that was read.
type list struct {
	answer
	version   string // its resourceVersion
	next      string // its continue token
	remaining *int64
	items     []*unstructured.Unstructured
}

// list lists the kit's namespace, or all of a cluster-scoped resource.
func (t *T) list(ctx context.Context, pairs ...string) list {
	return t.listed(t.listAnswer(ctx, pairs...))
}

func (t *T) listAnswer(ctx context.Context, pairs ...string) answer {
	return t.do(ctx, request{method: http.MethodGet, path: t.subject.path(t.subject.namespace, ""), query: query(pairs...)})
}

// listed ends the check unless the answer is a list.
func (t *T) listed(a answer) list {
	t.want(a, http.StatusOK)
	o := t.parsed(a)
	l := list{answer: a}
	l.version, _, _ = unstructured.NestedString(o.Object, "metadata", "resourceVersion")
	l.next, _, _ = unstructured.NestedString(o.Object, "metadata", "continue")
	if n, ok, _ := unstructured.NestedInt64(o.Object, "metadata", "remainingItemCount"); ok {
		l.remaining = &n
	}
	items, ok := o.Object["items"].([]any)
	if !ok {
		t.fatalf(a.Exchange, "the list has no array of items")
	}
	for _, item := range items {
		m, ok := item.(map[string]any)
		if !ok {
			t.fatalf(a.Exchange, "an item of the list is no object")
		}
		l.items = append(l.items, &unstructured.Unstructured{Object: m})
	}
	return l
}

// own are the items that the check has made.
func (t *T) own(l list) []*unstructured.Unstructured {
	var own []*unstructured.Unstructured
	for _, item := range l.items {
		if t.mine(item) {
			own = append(own, item)
		}
	}
	return own
}

// existing is an object to look at: a new one, or where none can be created one that is there.
func (t *T) existing(ctx context.Context) *unstructured.Unstructured {
	if t.subject.unmet(Writable, t.target) == "" {
		return t.create(ctx)
	}
	a := t.do(ctx, request{method: http.MethodGet, path: t.subject.path("", ""), query: query("limit", "1")})
	l := t.listed(a)
	if len(l.items) == 0 {
		t.notApplicable("nothing can be created, and there is no object to look at")
	}
	return l.items[0]
}

// newer says whether the resourceVersion a is above b; it ends the check where one is no positive
// integer.
func (t *T) newer(e *Exchange, a, b string) bool {
	sign, err := resourceversion.CompareResourceVersion(a, b)
	if err != nil {
		t.unusable()
		t.fatalf(e, "a resourceVersion is no positive integer: %v", err)
	}
	return sign > 0
}

// versionFault is the number of the fault of unusable resourceVersions.
const versionFault = 3

// unusable ends a check that is about something else than resourceVersions, and cannot do without them.
func (t *T) unusable() {
	if !t.check.Finds(versionFault) {
		t.notApplicable("the server's resourceVersions are no integers; list/resource-version says so")
	}
}

// now is the resourceVersion from which a watch shows what is written next.
func (t *T) now(ctx context.Context) string {
	version := t.list(ctx).version
	if version == "" {
		t.unusable()
	}
	return version
}

// content is an object without what the server writes by itself.
func content(o *unstructured.Unstructured) map[string]any {
	o = o.DeepCopy()
	for _, field := range []string{"apiVersion", "kind", "metadata", "status"} {
		delete(o.Object, field)
	}
	return o.Object
}

// same says whether two objects have the same content.
func same(a, b *unstructured.Unstructured) bool {
	return equality.Semantic.DeepEqual(content(a), content(b))
}

// nested is a merge patch that sets one field.
func nested(path []string, value any) map[string]any {
	m := map[string]any{path[len(path)-1]: value}
	for i := len(path) - 2; i >= 0; i-- {
		m = map[string]any{path[i]: m}
	}
	return m
}
