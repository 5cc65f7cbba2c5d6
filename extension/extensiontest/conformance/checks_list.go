package conformance

import (
	"context"
	"math/big"
	"net/http"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/resourceversion"
)

func listChecks() []Check {
	const versions = concepts + "#resource-versions"
	return []Check{
		{
			ID:      "list/resource-version",
			Promise: "A list, and each object, has a resourceVersion that is a positive integer.",
			Source:  versions + ", and " + keps + "sig-api-machinery/5504-comparable-resource-version",
			Faults:  []int{3},
			Needs:   []Need{Verb("list")},
			Run:     checkListVersion,
		},
		{
			ID:      "list/rv-grows",
			Promise: "Each write gives the object a greater resourceVersion, and a later list is never behind it.",
			Source:  keps + "sig-api-machinery/5504-comparable-resource-version",
			Faults:  []int{3},
			Needs:   []Need{Writable, Verb("list")},
			Run:     checkVersionGrows,
		},
		{
			ID:      "list/not-older-than",
			Promise: "A list that must not be older than a resourceVersion has what was written at it.",
			Source:  versions + "-in-metadata",
			Faults:  []int{3},
			Needs:   []Need{Writable, Verb("list")},
			Run:     checkNotOlderThan,
		},
		{
			ID:      "list/exact",
			Promise: "A list at an exact resourceVersion shows the state of that moment, or is answered 410 where it is no longer known.",
			Source:  versions + "-in-metadata",
			Faults:  []int{3},
			Needs:   []Need{Writable, Verb("list")},
			Run:     checkExact,
		},
		{
			ID:      "list/too-large",
			Promise: "A list at a resourceVersion that is far ahead is answered 504 Timeout with the cause ResourceVersionTooLarge, after a few seconds.",
			Source:  versions + "#unavailable-resource-versions",
			Faults:  []int{3},
			Needs:   []Need{Verb("list")},
			Run:     checkTooLarge,
		},
		{
			ID:      "list/labels",
			Promise: "A label selector in any of its forms gives the objects that match, and no other.",
			Source:  "https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#api",
			Faults:  []int{4},
			Needs:   []Need{Writable, Verb("list")},
			Run:     checkListLabels,
		},
		{
			ID:      "list/fields",
			Promise: "A field selector on metadata.name gives that object alone; one on an unknown field is answered 400.",
			Source:  "https://kubernetes.io/docs/concepts/overview/working-with-objects/field-selectors/",
			Faults:  []int{4},
			Needs:   []Need{Writable, Verb("list")},
			Run:     checkListFields,
		},
	}
}

// wellFormed fails unless a resourceVersion is a positive integer.
func (t *T) wellFormed(e *Exchange, of, version string) {
	if _, err := resourceversion.CompareResourceVersion(version, version); err != nil {
		t.unusable()
		t.failf(e, "the resourceVersion %q of %s is no positive integer", version, of)
	}
}

func checkListVersion(ctx context.Context, t *T) {
	namespace := ""
	writable := t.subject.unmet(Writable, t.target) == ""
	var pairs []string
	if writable {
		namespace = t.create(ctx).GetNamespace()
		pairs = []string{"labelSelector", t.selector()}
	}
	l := t.listed(t.do(ctx, request{method: http.MethodGet, path: t.subject.path(namespace, ""), query: query(append(pairs, "limit", "50")...)}))
	t.wellFormed(l.Exchange, "the list", l.version)
	if writable && len(l.items) == 0 {
		t.failf(l.Exchange, "the list does not have the object that was created before")
	}
	for _, item := range l.items {
		t.wellFormed(l.Exchange, item.GetName(), item.GetResourceVersion())
	}
}

func checkVersionGrows(ctx context.Context, t *T) {
	before := t.list(ctx)
	o := t.create(ctx)
	t.behind(ctx, before.version, o.GetResourceVersion(), "a create")
	for i := range 5 {
		changed := t.relabel(ctx, o, "round", string(rune('a'+i)))
		t.behind(ctx, o.GetResourceVersion(), changed.GetResourceVersion(), "an update")
		o = changed
	}
	before = t.list(ctx)
	t.delete(ctx, o)
	if after := t.list(ctx); !t.newer(after.Exchange, after.version, before.version) {
		t.failf(after.Exchange, "the list after a deletion has resourceVersion %s, not above %s of the list before", after.version, before.version)
	}
}

// behind fails unless a write raised the resourceVersion, and the next list has it.
func (t *T) behind(ctx context.Context, before, written, what string) {
	l := t.list(ctx)
	if !t.newer(l.Exchange, written, before) {
		t.failf(l.Exchange, "%s gave resourceVersion %s, not above %s before", what, written, before)
	}
	if t.newer(l.Exchange, written, l.version) {
		t.failf(l.Exchange, "the list has resourceVersion %s, behind %s that %s gave before", l.version, written, what)
	}
}

func checkNotOlderThan(ctx context.Context, t *T) {
	o := t.create(ctx)
	l := t.list(ctx, "resourceVersion", o.GetResourceVersion(), "resourceVersionMatch", "NotOlderThan")
	if t.newer(l.Exchange, o.GetResourceVersion(), l.version) {
		t.failf(l.Exchange, "the list has resourceVersion %s, older than %s", l.version, o.GetResourceVersion())
	}
	if len(t.own(l)) != 1 {
		t.failf(l.Exchange, "the object that was created at resourceVersion %s is not listed", o.GetResourceVersion())
	}
	t.want(t.listAnswer(ctx, "resourceVersionMatch", "NotOlderThan"), http.StatusBadRequest, http.StatusUnprocessableEntity, http.StatusForbidden)
}

func checkExact(ctx context.Context, t *T) {
	first := t.create(ctx)
	t.create(ctx)
	a := t.want(t.listAnswer(ctx, "resourceVersion", first.GetResourceVersion(), "resourceVersionMatch", "Exact"), http.StatusOK, http.StatusGone)
	if a.Code == http.StatusGone {
		t.status(a)
		return
	}
	l := t.listed(a)
	if l.version != first.GetResourceVersion() {
		t.failf(l.Exchange, "the list has resourceVersion %s, want exactly %s", l.version, first.GetResourceVersion())
	}
	if own := t.own(l); len(own) != 1 || own[0].GetName() != first.GetName() {
		t.failf(l.Exchange, "the list at resourceVersion %s has %d objects of this check, want only %s", l.version, len(own), first.GetName())
	}
}

// ahead is a resourceVersion that is not reached for long.
func ahead(version string) (string, bool) {
	n, ok := new(big.Int).SetString(version, 10)
	if !ok {
		return "", false
	}
	// A fiftieth more, and at least a billion: versions that count microseconds go far in a second, and
	// some servers put numbers into 64 bits.
	more := new(big.Int).Div(n, big.NewInt(50))
	if least := big.NewInt(1_000_000_000); more.Cmp(least) < 0 {
		more = least
	}
	return n.Add(n, more).String(), true
}

func checkTooLarge(ctx context.Context, t *T) {
	version, ok := ahead(t.listed(t.do(ctx, request{method: http.MethodGet, path: t.subject.path(t.subject.namespace, ""), query: query("limit", "1")})).version)
	if !ok {
		t.notApplicable("the resourceVersion is no integer, so that no later one is known")
	}
	begin := time.Now()
	a := t.listAnswer(ctx, "resourceVersion", version, "resourceVersionMatch", "NotOlderThan")
	took := time.Since(begin)
	s := t.refused(a, http.StatusGatewayTimeout, metav1.StatusReasonTimeout)
	if s.Details == nil || len(s.Details.Causes) == 0 || s.Details.Causes[0].Type != metav1.CauseTypeResourceVersionTooLarge {
		t.failf(a.Exchange, "the Status has no cause of type %s", metav1.CauseTypeResourceVersionTooLarge)
	}
	if took > 8*time.Second {
		t.failf(a.Exchange, "the answer took %v, want it after about 3s", took.Round(time.Millisecond))
	}
}

func checkListLabels(ctx context.Context, t *T) {
	names := map[string]string{}
	for _, color := range []string{"red", "blue", "green"} {
		o := t.object()
		labels := o.GetLabels()
		labels["color"] = color
		o.SetLabels(labels)
		names[t.createThis(ctx, o).GetName()] = color
	}
	bare := t.create(ctx)
	names[bare.GetName()] = "none"
	for selector, want := range map[string]map[string]bool{
		"color=red":             {"red": true},
		"color!=red":            {"blue": true, "green": true, "none": true},
		"color in (red,blue)":   {"red": true, "blue": true},
		"color notin (red)":     {"blue": true, "green": true, "none": true},
		"color":                 {"red": true, "blue": true, "green": true},
		"!color":                {"none": true},
		"color,color!=green":    {"red": true, "blue": true},
		"color=red,color=green": {},
	} {
		l := t.list(ctx, "labelSelector", selector)
		got := map[string]bool{}
		for _, item := range t.own(l) {
			got[names[item.GetName()]] = true
		}
		if len(got) != len(want) {
			t.failf(l.Exchange, "the selector %q gave the objects %v, want %v", selector, keys(got), keys(want))
			continue
		}
		for color := range want {
			if !got[color] {
				t.failf(l.Exchange, "the selector %q gave the objects %v, want %v", selector, keys(got), keys(want))
			}
		}
	}
}

func checkListFields(ctx context.Context, t *T) {
	o := t.create(ctx)
	t.create(ctx)
	l := t.list(ctx, "fieldSelector", "metadata.name="+o.GetName())
	if len(l.items) != 1 || l.items[0].GetName() != o.GetName() {
		t.failf(l.Exchange, "metadata.name=%s gave %d objects, want that one", o.GetName(), len(l.items))
	}
	if l := t.list(ctx, "fieldSelector", "metadata.name=not-there"); len(l.items) != 0 {
		t.failf(l.Exchange, "metadata.name=not-there gave %d objects, want none", len(l.items))
	}
	t.refused(t.listAnswer(ctx, "fieldSelector", "annexConformance.unknown=x"), http.StatusBadRequest, metav1.StatusReasonBadRequest)
}
