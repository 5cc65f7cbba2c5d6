package extension_test

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/annex-api/annex/extension"
)

const (
	policy = "policy.example.com/"
	level  = policy + "level"
)

func isPolicy(key, _ string) bool { return strings.HasPrefix(key, policy) }

func ownedBy(name string, controller bool) metav1.OwnerReference {
	return metav1.OwnerReference{APIVersion: "v1", Kind: "Secret", Name: name, UID: types.UID("uid of " + name), Controller: &controller}
}

// discreet are notes of one source that has labels, annotations and an owner which are not shown.
func discreet(t *testing.T) *pair {
	t.Helper()
	p := projected(t, func(_ *pair, n *extension.Projection[Note, corev1.ConfigMap]) {
		n.To = func(from *corev1.ConfigMap, into *Note) (bool, error) {
			into.Text = from.Data["text"]
			delete(into.Labels, "note")
			maps.DeleteFunc(into.Labels, isPolicy)
			maps.DeleteFunc(into.Annotations, isPolicy)
			into.OwnerReferences = slices.DeleteFunc(into.OwnerReferences, func(o metav1.OwnerReference) bool { return o.Name == "boss" })
			return true, nil
		}
		n.Allowed = func(ctx context.Context, verb string, n *Note) bool {
			// Nobody but an administrator sets this one.
			_, set := n.Labels[policy+"forbidden"]
			return !set || slices.Contains(extension.CallerOf(ctx).Groups, "system:masters")
		}
	})
	made := source("a", "old")
	made.SetLabels(map[string]string{"note": "true", level: "strict", "seen": "old"})
	made.SetAnnotations(map[string]string{level: "strict", "seen": "old"})
	made.SetOwnerReferences([]metav1.OwnerReference{ownedBy("boss", true), ownedBy("friend", false)})
	if _, err := p.sources.Create(t.Context(), made, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	p.shown("a", "old")
	return p
}

// TestProjectionRefusesWhatItDoesNotShow: whoever names a label, annotation or owner of the source that
// is not shown, or would not be, gets 422 by every way to write, and the source stays as it is.
func TestProjectionRefusesWhatItDoesNotShow(t *testing.T) {
	p := discreet(t)
	before, err := p.sources.Get(t.Context(), "a", metav1.GetOptions{})
	before = must(t, before, err)
	for name, c := range map[string]struct{ patch, field string }{
		"label that is there":      {`{"metadata":{"labels":{"` + level + `":"none"}}}`, "metadata.labels[" + level + "]"},
		"the same label":           {`{"metadata":{"labels":{"` + level + `":"strict"}}}`, "metadata.labels[" + level + "]"},
		"label that is not there":  {`{"metadata":{"labels":{"` + policy + `new":"x"}}}`, "metadata.labels[" + policy + "new]"},
		"annotation that is there": {`{"metadata":{"annotations":{"` + level + `":"none"}}}`, "metadata.annotations[" + level + "]"},
		"annotation that is not":   {`{"metadata":{"annotations":{"` + policy + `new":"x"}}}`, "metadata.annotations[" + policy + "new]"},
		"owner":                    {`{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"Secret","name":"boss","uid":"uid of boss","controller":false}]}}`, "metadata.ownerReferences"},
		"second controller":        {`{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"Secret","name":"new","uid":"uid of new","controller":true}]}}`, "metadata.ownerReferences"},
		"selecting label":          {`{"metadata":{"labels":{"note":"true"}}}`, "metadata.labels[note]"},
	} {
		_, err := p.notes.Patch(t.Context(), "a", types.MergePatchType, []byte(c.patch), metav1.PatchOptions{})
		if told := status(t, err); told.Reason != metav1.StatusReasonInvalid || len(told.Details.Causes) != 1 || told.Details.Causes[0].Field != c.field {
			t.Errorf("%s: %v", name, told)
		} else if strings.Contains(told.Message, "boss") || strings.Contains(told.Message, "strict") {
			t.Errorf("%s: the answer tells what is not shown: %s", name, told.Message)
		}
	}
	applied := `{"apiVersion":"notes.example.com/v1","kind":"Note","metadata":{"name":"a","labels":{"` + level + `":"none"}},"text":"old"}`
	if _, err := p.notes.Patch(t.Context(), "a", types.ApplyPatchType, []byte(applied), metav1.PatchOptions{FieldManager: "m", Force: new(true)}); !apierrors.IsInvalid(err) {
		t.Errorf("apply: %v", err)
	}
	created := note("b", "x")
	created.SetLabels(map[string]string{level: "none"})
	if _, err := p.notes.Create(t.Context(), created, metav1.CreateOptions{}); !apierrors.IsInvalid(err) {
		t.Errorf("creation: %v", err)
	}
	created.SetName("a")
	created.SetResourceVersion("")
	if _, err := p.notes.Update(t.Context(), created, metav1.UpdateOptions{}); !apierrors.IsInvalid(err) {
		t.Errorf("update: %v", err)
	}
	after, err := p.sources.Get(t.Context(), "a", metav1.GetOptions{})
	if must(t, after, err).GetResourceVersion() != before.GetResourceVersion() {
		t.Errorf("the source became %v", after.Object)
	}
}

// TestAllowedSeesWhatTheClientSent, also where it would not be shown: that is for Allowed to refuse
// before anything else is said of it.
func TestAllowedSeesWhatTheClientSent(t *testing.T) {
	p := discreet(t)
	patch := []byte(`{"metadata":{"labels":{"` + policy + `forbidden":"x"}}}`)
	if _, err := p.other().Patch(t.Context(), "a", types.MergePatchType, patch, metav1.PatchOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("a label that Allowed refuses: %v", err)
	}
	if _, err := p.notes.Patch(t.Context(), "a", types.MergePatchType, patch, metav1.PatchOptions{}); !apierrors.IsInvalid(err) {
		t.Errorf("a label that Allowed takes and To does not show: %v", err)
	}
	created := note("b", "x")
	created.SetLabels(map[string]string{policy + "forbidden": "x"})
	if _, err := p.other().Create(t.Context(), created, metav1.CreateOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("a creation that Allowed refuses: %v", err)
	}
}

// What is shown is the client's to write, and nothing else goes with it.
func TestProjectionKeepsOwnersThatItDoesNotShow(t *testing.T) {
	p := discreet(t)
	n := p.shown("a", "old")
	n.SetOwnerReferences([]metav1.OwnerReference{ownedBy("new", false)})
	n.SetLabels(map[string]string{"mine": "x"})
	n.SetAnnotations(nil)
	n, err := p.notes.Update(t.Context(), n, metav1.UpdateOptions{})
	if owners := must(t, n, err).GetOwnerReferences(); len(owners) != 1 || owners[0].Name != "new" {
		t.Errorf("shown are the owners %v", owners)
	}
	o, err := p.sources.Get(t.Context(), "a", metav1.GetOptions{})
	o = must(t, o, err)
	if owners := o.GetOwnerReferences(); len(owners) != 2 || owners[0].Name != "boss" || owners[0].Controller == nil || !*owners[0].Controller || owners[1].Name != "new" {
		t.Errorf("the source has the owners %v", owners)
	}
	if want := map[string]string{"note": "true", level: "strict", "mine": "x"}; !maps.Equal(o.GetLabels(), want) {
		t.Errorf("the source has the labels %v, want %v", o.GetLabels(), want)
	}
	if got := o.GetAnnotations(); got[level] != "strict" || got["seen"] != "" {
		t.Errorf("the source has the annotations %v", got)
	}
	n.SetOwnerReferences(nil)
	if _, err = p.notes.Update(t.Context(), n, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	o, err = p.sources.Get(t.Context(), "a", metav1.GetOptions{})
	if owners := must(t, o, err).GetOwnerReferences(); len(owners) != 1 || owners[0].Name != "boss" {
		t.Errorf("after all that is shown was taken off, the source has the owners %v", owners)
	}
}

// From moves a label that To shows by another name: it is the client's under that name alone.
func TestProjectionOfALabelByAnotherName(t *testing.T) {
	p := projected(t, func(_ *pair, n *extension.Projection[Note, corev1.ConfigMap]) {
		to, from := n.To, n.From
		n.To = func(o *corev1.ConfigMap, into *Note) (bool, error) {
			if team, ok := into.Labels["internal/team"]; ok {
				into.Labels["team"] = team
			}
			delete(into.Labels, "internal/team")
			return to(o, into)
		}
		n.From = func(ctx context.Context, n *Note, into *corev1.ConfigMap) error {
			delete(into.Labels, "team")
			into.Labels["internal/team"] = n.Labels["team"]
			return from(ctx, n, into)
		}
	})
	n := note("a", "x")
	n.SetLabels(map[string]string{"team": "red"})
	n, err := p.notes.Create(t.Context(), n, metav1.CreateOptions{})
	n = must(t, n, err)
	n.SetLabels(map[string]string{"team": "blue"})
	if n, err = p.notes.Update(t.Context(), n, metav1.UpdateOptions{}); err != nil || !maps.Equal(n.GetLabels(), map[string]string{"team": "blue"}) {
		t.Fatalf("shown are the labels %v, %v", n, err)
	}
	o, err := p.sources.Get(t.Context(), "a", metav1.GetOptions{})
	if got := must(t, o, err).GetLabels(); !maps.Equal(got, map[string]string{"note": "true", "internal/team": "blue"}) {
		t.Errorf("the source has the labels %v", got)
	}
	n.SetLabels(map[string]string{"team": "blue", "internal/team": "red"})
	if _, err := p.notes.Update(t.Context(), n, metav1.UpdateOptions{}); !apierrors.IsInvalid(err) {
		t.Errorf("the label by its own name: %v", err)
	}
}
