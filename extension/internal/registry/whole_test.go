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

// inOldVersion gives a request as v1beta1 has it, and a copy of its object to change.
func inOldVersion(a admission.Attributes, o admission.ObjectInterfaces) (*admission.VersionedAttributes, *oldCog, error) {
	called, err := admission.NewVersionedAttributes(a, schema.GroupVersionKind{Group: cogGroup, Version: "v1beta1", Kind: "Cog"}, o)
	if err != nil {
		return nil, nil, err
	}
	return called, deep(called.VersionedObject.Object().(*oldCog)), nil
}

// webhook is called with objects of v1beta1, as k8s.io/apiserver calls one whose rules name
// that version.
type webhook func(*oldCog)

func (webhook) Handles(admission.Operation) bool { return true }

func (w webhook) Admit(_ context.Context, a admission.Attributes, o admission.ObjectInterfaces) error {
	called, changed, err := inOldVersion(a, o)
	if err != nil {
		return err
	}
	w(changed)
	o.GetObjectDefaulter().Default(changed)
	called.UpdateObject(changed)
	return o.GetObjectConvertor().Convert(called.VersionedObject.Object(), a.GetObject(), nil)
}

// policy does the same as a policy whose request comes through the hub.
type policy func(*oldCog)

func (policy) Handles(admission.Operation) bool { return true }

func (p policy) Admit(_ context.Context, a admission.Attributes, o admission.ObjectInterfaces) error {
	_, changed, err := inOldVersion(a, o)
	if err != nil {
		return err
	}
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

// The same holds for a kind without a Go type.
func TestAdmissionInAnotherVersionKeepsTheFieldsOfUntypedKinds(t *testing.T) {
	gv := func(version string) schema.GroupVersion {
		return schema.GroupVersion{Group: cogGroup, Version: version}
	}
	color := func(from, to runtime.Object) error {
		to.(*unstructured.Unstructured).Object["color"] = from.(*unstructured.Unstructured).Object["color"]
		return nil
	}
	made := func(version string) (object, list func() runtime.Object) {
		return func() runtime.Object { return kind.Empty(gv(version).WithKind("Lamp")) }, func() runtime.Object { return kind.EmptyList(gv(version).WithKind("LampList")) }
	}
	k := &kind.Kind{
		Hub: gv("v1"), Names: kind.Names{Kind: "Lamp", List: "LampList", Plural: "lamps", Singular: "lamp"}, StorageVersion: "v1", Untyped: &kind.Untyped{},
		Spokes: []kind.Spoke{{Version: "v1beta1", ToHub: color, FromHub: color}},
	}
	k.New, k.NewList = made("v1")
	k.Spokes[0].New, k.Spokes[0].NewList = made("v1beta1")
	scheme, err := versions.Scheme(k)
	if err != nil {
		t.Fatal(err)
	}
	kinds := codec.NewKinds(scheme, k)
	o := &admission.RuntimeObjectInterfaces{ObjectCreater: kinds, ObjectTyper: kinds, ObjectDefaulter: kinds, ObjectConvertor: kinds}
	obj := kind.Empty(gv("v1").WithKind("Lamp"))
	obj.SetName("one")
	obj.Object["color"], obj.Object["note"] = "red", "stays"
	admit := admitting(func(a admission.Attributes, o admission.ObjectInterfaces) error {
		called, err := admission.NewVersionedAttributes(a, gv("v1beta1").WithKind("Lamp"), o)
		if err != nil {
			return err
		}
		changed := called.VersionedObject.Object().DeepCopyObject().(*unstructured.Unstructured)
		if _, seen := changed.Object["note"]; seen {
			t.Errorf("the webhook sees %v", changed.Object)
		}
		changed.Object["color"] = "blue"
		return o.GetObjectConvertor().Convert(changed, a.GetObject(), nil)
	})
	a := admission.NewAttributesRecord(obj, nil, gv("v1beta1").WithKind("Lamp"), "", "one", gv("v1beta1").WithResource("lamps"), "", admission.Create, nil, false, nil)
	if err := Whole(admit, k).(admission.MutationInterface).Admit(requested(t, "v1beta1"), a, o); err != nil {
		t.Fatal(err)
	}
	if obj.Object["color"] != "blue" || obj.Object["note"] != "stays" || obj.GetName() != "one" || obj.GetAPIVersion() != gv("v1").String() {
		t.Errorf("it is %v", obj.Object)
	}
}

// admitting is admission that is given a way to convert.
type admitting func(admission.Attributes, admission.ObjectInterfaces) error

func (admitting) Handles(admission.Operation) bool { return true }

func (f admitting) Admit(_ context.Context, a admission.Attributes, o admission.ObjectInterfaces) error {
	return f(a, o)
}
