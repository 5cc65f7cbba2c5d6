package registry

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/registry/rest"

	"github.com/annex-api/annex/extension/internal/kind"
	"github.com/annex-api/annex/extension/internal/versions"
)

// mutating is admission that changes objects.
type mutating func(obj, old *cog)

func (mutating) Handles(admission.Operation) bool { return true }

func (m mutating) Admit(_ context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	old, _ := a.GetOldObject().(*cog)
	m(a.GetObject().(*cog), old)
	return nil
}

// patched does to an object what the handlers of the API do: first a change and what is
// worked out of it, then admission.
func patched(k *kind.Kind, change func(obj, live *cog), admit admission.MutationInterface) rest.UpdatedObjectInfo {
	return rest.DefaultUpdatedObjectInfo(nil,
		func(_ context.Context, _, live runtime.Object) (runtime.Object, error) {
			obj := live.DeepCopyObject()
			change(obj.(*cog), live.(*cog))
			return obj, nil
		},
		func(ctx context.Context, obj, live runtime.Object) (runtime.Object, error) {
			resource := k.Hub.WithResource(k.Names.Plural)
			return obj, admit.Admit(ctx, admission.NewAttributesRecord(obj, live, k.Hub.WithKind(k.Names.Kind), "", "one", resource, "", admission.Update, &metav1.UpdateOptions{}, false, nil), nil)
		})
}

// Patches and managed fields see what the version shows; admission, and all after it, see
// the whole, and what admission takes away stays away.
func TestWhoSeesWhat(t *testing.T) {
	k := cogs()
	for version, shown := range map[string]int64{"v1": 3, "v1beta1": 0} {
		for _, takesAway := range []bool{false, true} {
			stored := &cog{ObjectMeta: metav1.ObjectMeta{ResourceVersion: "5"}, Spec: cogSpec{Text: "a", Hidden: 3}}
			admit := Whole(mutating(func(obj, old *cog) {
				if obj.Spec.Hidden != 3 || old.Spec.Hidden != 3 || obj.Spec.Text != "b" || old.Spec.Text != "a" {
					t.Errorf("%s: admission sees %v and before %v", version, obj.Spec, old.Spec)
				}
				if takesAway {
					obj.Spec.Hidden = 0
				}
			}), k).(admission.MutationInterface)
			info := patched(k, func(obj, live *cog) {
				if obj.Spec.Hidden != shown || live.Spec.Hidden != shown {
					t.Errorf("%s: a patch sees %v of %v", version, obj.Spec, live.Spec)
				}
				obj.Spec.Text = "b"
			}, admit)
			got, err := through{info, k}.UpdatedObject(requested(t, version), stored)
			if err != nil {
				t.Fatal(err)
			}
			want := cogSpec{Text: "b", Hidden: 3}
			if takesAway {
				want.Hidden = 0
			}
			if got.(*cog).Spec != want || stored.Spec.Hidden != 3 || stored.Spec.Text != "a" {
				t.Errorf("%s: %v is made of %v, want %v", version, got.(*cog).Spec, stored.Spec, want)
			}
		}
	}
}

// Without admission, and where an update changes nothing, all is there.
func TestWholeWithoutAdmission(t *testing.T) {
	k := cogs()
	stored := &cog{ObjectMeta: metav1.ObjectMeta{ResourceVersion: "5"}, Spec: cogSpec{Text: "a", Hidden: 3}}
	for name, info := range map[string]rest.UpdatedObjectInfo{
		"a copy": rest.DefaultUpdatedObjectInfo(nil, func(_ context.Context, _, live runtime.Object) (runtime.Object, error) {
			return live.DeepCopyObject(), nil
		}),
		"the same": rest.DefaultUpdatedObjectInfo(nil, func(_ context.Context, _, live runtime.Object) (runtime.Object, error) { return live, nil }),
	} {
		got, err := through{info, k}.UpdatedObject(requested(t, "v1beta1"), stored)
		if err != nil || got.(*cog).Spec != stored.Spec {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if got := Whole(nil, k); got != nil {
		t.Errorf("no admission becomes %v", got)
	}
}

// Admission sees the hub's defaults at a creation through a spoke.
func TestDefaultsBeforeAdmission(t *testing.T) {
	k := cogs(func(k *kind.Kind) { k.Hooks.Default = func(obj runtime.Object) { obj.(*cog).Spec.Hidden = 7 } })
	var seen int64
	admit := Whole(mutating(func(obj, _ *cog) { seen = obj.Spec.Hidden }), k).(admission.MutationInterface)
	a := admission.NewAttributesRecord(&cog{}, nil, k.Hub.WithKind("Cog"), "", "one", k.Hub.WithResource("cogs"), "", admission.Create, &metav1.CreateOptions{}, false, nil)
	if err := admit.Admit(requested(t, "v1beta1"), a, nil); err != nil || seen != 7 {
		t.Errorf("admission sees %d, %v", seen, err)
	}
}

// What carries the hub's fields is no client's to write, and is not lost where a newer
// release has stored it.
func TestWhatCarriesIsNoClients(t *testing.T) {
	const other = versions.Stash + `:"spec"`
	for name, c := range map[string]struct{ sent, stored, want map[string]string }{
		"sent":            {map[string]string{versions.Stash: "x", other: "y", "a": "b"}, nil, map[string]string{"a": "b"}},
		"nothing":         {nil, nil, nil},
		"stored":          {nil, map[string]string{versions.Stash: "x"}, map[string]string{versions.Stash: "x"}},
		"kept":            {map[string]string{versions.Stash: "x"}, map[string]string{versions.Stash: "x"}, map[string]string{versions.Stash: "x"}},
		"changed":         {map[string]string{versions.Stash: "z", "a": "b"}, map[string]string{versions.Stash: "x", "c": "d"}, map[string]string{versions.Stash: "x", "a": "b"}},
		"taken away":      {map[string]string{"a": "b"}, map[string]string{versions.Stash: "x"}, map[string]string{versions.Stash: "x", "a": "b"}},
		"other than that": {map[string]string{"extension.annex.dev/hubcap": "x"}, nil, map[string]string{"extension.annex.dev/hubcap": "x"}},
	} {
		obj := &cog{ObjectMeta: metav1.ObjectMeta{Annotations: c.sent}}
		keepStash(obj, &cog{ObjectMeta: metav1.ObjectMeta{Annotations: c.stored}})
		if fmt.Sprint(obj.Annotations) != fmt.Sprint(c.want) {
			t.Errorf("%s: %v, want %v", name, obj.Annotations, c.want)
		}
	}
}

// The schema of the request's version is asked first, about an object of it.
func TestTheSchemaOfTheRequestIsAsked(t *testing.T) {
	invalid := func(name string) field.ErrorList { return field.ErrorList{field.Invalid(field.NewPath(name), "", "")} }
	k := cogs(func(k *kind.Kind) {
		k.Schemas = map[string]kind.Schema{
			"v1": {Validate: func(_ context.Context, obj, old runtime.Object) field.ErrorList {
				if obj.(*cog).Spec.Teeth > 10 && (old == nil || old.(*cog).Spec.Teeth <= 10) {
					return invalid("spec")
				}
				return nil
			}},
			"v1beta1": {Validate: func(_ context.Context, obj, old runtime.Object) field.ErrorList {
				if obj.(*oldCog).Settings.Count > 5 && (old == nil || old.(*oldCog).Settings.Count <= 5) {
					return invalid("settings")
				}
				return nil
			}},
		}
	})
	s := strategyFor(t, k)
	of := func(teeth int64) *cog { return &cog{Spec: cogSpec{Teeth: teeth}} }
	for _, c := range []struct {
		version    string
		teeth, was int64
		want       string
	}{
		{"v1", 7, 0, ""},
		{"v1", 11, 0, "spec"},
		{"v1beta1", 7, 0, "settings"},
		{"v1beta1", 11, 0, "settings"},
		{"v1beta1", 7, 6, ""},
		{"v1beta1", 11, 6, "spec"},
		{"v1beta1", 3, 0, ""},
	} {
		ctx := requested(t, c.version)
		for what, errs := range map[string]field.ErrorList{
			"update": s.ValidateUpdate(ctx, of(c.teeth), of(c.was)),
			"status": statusStrategy{s}.ValidateUpdate(ctx, of(c.teeth), of(c.was)),
			"part":   updateStrategy{s, k.Subresources[0].Update}.ValidateUpdate(ctx, of(c.teeth), of(c.was)),
		} {
			got := ""
			if len(errs) > 0 {
				got = errs[0].Field
			}
			if got != c.want {
				t.Errorf("%s of %d to %d through %s: %q, want %q", what, c.was, c.teeth, c.version, got, c.want)
			}
		}
		if errs := s.Validate(ctx, of(c.teeth)); c.was == 0 && (len(errs) > 0) != (c.want != "") {
			t.Errorf("create of %d through %s: %v", c.teeth, c.version, errs)
		}
	}
}

// A spoke whose conversions know nothing of an empty object, and make something up, creates
// by a PUT and by apply what it creates by a POST.
func TestCreationsThroughASpokeAreTheSame(t *testing.T) {
	k := cogs(func(k *kind.Kind) {
		k.CreateOnUpdate = true
		to, from := k.Spokes[0].ToHub, k.Spokes[0].FromHub
		k.Spokes[0].ToHub = func(in, out runtime.Object) error {
			err := to(in, out)
			out.(*cog).Spec.Hidden = 7
			return err
		}
		k.Spokes[0].FromHub = func(in, out runtime.Object) error {
			if in.(*cog).Spec.Text == "" {
				return errors.New("no text")
			}
			return from(in, out)
		}
	})
	main := opened(t, k)["cogs"].(rest.StandardStorage)
	ctx := requested(t, "v1beta1")
	sent := func(name string) runtime.Object {
		obj, err := versions.ToHub(k, "v1beta1", &oldCog{ObjectMeta: metav1.ObjectMeta{Name: name}, Settings: oldSettings{Text: "a", Count: 1}})
		if err != nil {
			t.Fatal(err)
		}
		return obj
	}
	update := func(force bool) func(name string) (runtime.Object, error) {
		return func(name string) (runtime.Object, error) {
			info := rest.DefaultUpdatedObjectInfo(sent(name), func(_ context.Context, obj, live runtime.Object) (runtime.Object, error) {
				if _, ok := live.(*oldCog); !ok { // managed fields are worked out in the request's version
					t.Errorf("what there is before it is created is a %T", live)
				}
				return obj, nil
			})
			got, created, err := main.Update(ctx, name, info, nil, nil, force, &metav1.UpdateOptions{})
			if err == nil && !created {
				t.Error("it is updated")
			}
			return got, err
		}
	}
	for name, create := range map[string]func(name string) (runtime.Object, error){
		"post": func(name string) (runtime.Object, error) {
			return main.Create(ctx, sent(name), nil, &metav1.CreateOptions{})
		},
		"put": update(false), "apply": update(true),
	} {
		got, err := create(name)
		if want := (cogSpec{Text: "a", Teeth: 1, Hidden: 7}); err != nil || got.(*cog).Spec != want {
			t.Errorf("%s gives %v, %v", name, got, err)
		}
	}
}

// No subresource lets a client write what carries the hub's fields.
func TestNoSubresourceWritesWhatCarries(t *testing.T) {
	k := cogs()
	s := strategyFor(t, k)
	for _, field := range []string{".metadata.annotations", ".metadata"} {
		for what, stored := range map[string]map[string]string{"nothing": nil, "a newer release's": {versions.Stash: "x"}} {
			obj := &cog{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{versions.Stash: "mine", versions.Stash + ":y": "mine", "a": "b"}}}
			old := &cog{ObjectMeta: metav1.ObjectMeta{Annotations: stored}}
			updateStrategy{s, &kind.Update{Fields: []string{field}}}.PrepareForUpdate(requested(t, "v1"), obj, old)
			want := map[string]string{"a": "b"}
			maps.Copy(want, stored)
			if !maps.Equal(obj.Annotations, want) {
				t.Errorf("%s where %s is stored: %v, want %v", field, what, obj.Annotations, want)
			}
		}
	}
}
