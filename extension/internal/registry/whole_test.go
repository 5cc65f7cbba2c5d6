package registry

import (
	"context"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"

	"github.com/annex-api/annex/extension/internal/codec"
	"github.com/annex-api/annex/extension/internal/kind"
	"github.com/annex-api/annex/extension/internal/versions"
)

// webhook is called with objects of v1beta1, as k8s.io/apiserver calls one whose rules name
// that version.
type webhook func(*oldCog)

func (webhook) Handles(admission.Operation) bool { return true }

func (w webhook) Admit(_ context.Context, a admission.Attributes, o admission.ObjectInterfaces) error {
	called, err := admission.NewVersionedAttributes(a, schema.GroupVersionKind{Group: cogGroup, Version: "v1beta1", Kind: "Cog"}, o)
	if err != nil {
		return err
	}
	changed := deep(called.VersionedObject.Object().(*oldCog))
	w(changed)
	o.GetObjectDefaulter().Default(changed)
	called.UpdateObject(changed)
	return o.GetObjectConvertor().Convert(called.VersionedObject.Object(), a.GetObject(), nil)
}

// policy does the same as a policy whose request comes through the hub.
type policy func(*oldCog)

func (policy) Handles(admission.Operation) bool { return true }

func (p policy) Admit(_ context.Context, a admission.Attributes, o admission.ObjectInterfaces) error {
	called, err := admission.NewVersionedAttributes(a, schema.GroupVersionKind{Group: cogGroup, Version: "v1beta1", Kind: "Cog"}, o)
	if err != nil {
		return err
	}
	changed := deep(called.VersionedObject.Object().(*oldCog))
	p(changed)
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(changed)
	if err != nil {
		return err
	}
	hub, err := o.GetObjectConvertor().ConvertToVersion(&unstructured.Unstructured{Object: content}, a.GetKind().GroupVersion())
	if err != nil {
		return err
	}
	return o.GetObjectConvertor().Convert(hub, a.GetObject(), nil)
}

// What webhooks and policies of another version cannot say stays: the hub's defaults, what
// admission before them has set, and what is stored. What they take away is away.
func TestAdmissionInAnotherVersionKeepsTheHubsFields(t *testing.T) {
	k := cogs(func(k *kind.Kind) {
		k.Hooks.Default = func(obj runtime.Object) {
			if c := obj.(*cog); c.Spec.Hidden == 0 {
				c.Spec.Hidden = 7
			}
		}
		// As many write it, which counts on an empty object.
		k.Spokes[0].ToHub = func(from, to runtime.Object) error {
			in, out := from.(*oldCog), to.(*cog)
			out.Spec = cogSpec{Teeth: in.Settings.Count, Text: out.Spec.Text}
			if in.Settings.Text != "" {
				out.Spec.Text = in.Settings.Text
			}
			return nil
		}
	})
	scheme, err := versions.Scheme(k)
	if err != nil {
		t.Fatal(err)
	}
	kinds := codec.NewKinds(scheme, k)
	o := &admission.RuntimeObjectInterfaces{ObjectCreater: kinds, ObjectTyper: kinds, ObjectDefaulter: kinds, ObjectConvertor: kinds}
	change := func(o *oldCog) { o.Settings = oldSettings{Count: o.Settings.Count + 1} }
	for name, c := range map[string]struct {
		admit   admission.MutationInterface
		version string
		old     *cog
		sent    cogSpec
		want    cogSpec
	}{
		"a default":               {webhook(change), "v1beta1", nil, cogSpec{Text: "a", Teeth: 1}, cogSpec{Teeth: 2, Hidden: 7}},
		"what was set before":     {webhook(change), "v1beta1", nil, cogSpec{Text: "a", Hidden: 9}, cogSpec{Teeth: 1, Hidden: 9}},
		"what is stored":          {webhook(change), "v1beta1", &cog{Spec: cogSpec{Text: "a", Hidden: 3}}, cogSpec{Text: "b", Hidden: 3}, cogSpec{Teeth: 1, Hidden: 3}},
		"a request through hub":   {webhook(change), "v1", nil, cogSpec{Text: "a", Hidden: 9}, cogSpec{Teeth: 1, Hidden: 9}},
		"a policy, through spoke": {policy(change), "v1beta1", nil, cogSpec{Text: "a", Hidden: 9}, cogSpec{Teeth: 1, Hidden: 9}},
		"a policy, through hub":   {policy(change), "v1", nil, cogSpec{Text: "a", Hidden: 9}, cogSpec{Teeth: 1, Hidden: 9}},
	} {
		operation := admission.Create
		var old runtime.Object
		if c.old != nil {
			operation, old = admission.Update, c.old
		}
		obj := &cog{ObjectMeta: metav1.ObjectMeta{Name: "one", Labels: map[string]string{"a": "b"}}, Spec: c.sent}
		gv := schema.GroupVersion{Group: cogGroup, Version: c.version}
		a := admission.NewAttributesRecord(obj, old, gv.WithKind("Cog"), "", "one", gv.WithResource("cogs"), "", operation, nil, false, nil)
		if err := Whole(c.admit, k).(admission.MutationInterface).Admit(requested(t, c.version), a, o); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if obj.Spec != c.want || obj.Name != "one" || obj.Labels["a"] != "b" {
			t.Errorf("%s: %+v of %v, want %+v", name, obj.Spec, obj.ObjectMeta, c.want)
		}
	}
}
