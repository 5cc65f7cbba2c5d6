package registry

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/registry/rest"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/annex-api/annex/extension/internal/kind"
	"github.com/annex-api/annex/extension/internal/versions"
)

// Every subresource says how its fields are owned in one way: the API server takes no other.
func TestOneWayToSayWhatIsOwned(t *testing.T) {
	for path, storage := range opened(t, cogs()) {
		if _, both := storage.(rest.ResetFieldsStrategy); both {
			t.Errorf("%s has reset fields beside a filter", path)
		}
		if _, filters := storage.(rest.ResetFieldsFilterStrategy); filters == strings.HasSuffix(path, "/scale") {
			t.Errorf("%s filters: %v", path, filters)
		}
	}
}

// What a write ignores is owned by nobody, by the names that each version has.
func TestWhatIsOwned(t *testing.T) {
	set := fieldpath.NewSet(
		fieldpath.MakePathOrDie("metadata", "labels", "a"),
		fieldpath.MakePathOrDie("metadata", "annotations", "a"),
		fieldpath.MakePathOrDie("metadata", "annotations", versions.Stash),
		fieldpath.MakePathOrDie("metadata", "annotations", versions.Stash+`:"spec"."hidden"`),
		fieldpath.MakePathOrDie("spec", "text"), fieldpath.MakePathOrDie("spec", "teeth"),
		fieldpath.MakePathOrDie("settings", "text"), fieldpath.MakePathOrDie("template", "labels"),
		fieldpath.MakePathOrDie("status", "teeth"),
	)
	k := cogs()
	s := strategyFor(t, k)
	const main = ".metadata.annotations.a .metadata.labels.a .settings.text .spec.teeth .spec.text .template.labels"
	for what, c := range map[string]struct {
		filters map[fieldpath.APIVersion]fieldpath.Filter
		want    map[string]string
	}{
		"main":   {s.GetResetFieldsFilter(), map[string]string{"v1": main, "v1beta1": main}},
		"status": {statusStrategy{s}.GetResetFieldsFilter(), map[string]string{"v1": ".settings.text .status.teeth", "v1beta1": ".spec.teeth .spec.text .status.teeth .template.labels"}},
		"words": {updateStrategy{s, k.Subresources[0].Update}.GetResetFieldsFilter(), map[string]string{
			"v1": ".spec.text", "v1beta1": ".settings.text .spec.teeth .spec.text .template.labels", // it names the text otherwise
		}},
	} {
		for version, want := range c.want {
			var got []string
			for path := range c.filters[fieldpath.APIVersion(cogGroup+"/"+version)].Filter(set).All() {
				got = append(got, path.String())
			}
			slices.Sort(got)
			if strings.Join(got, " ") != want {
				t.Errorf("%s in %s: %q, want %q", what, version, got, want)
			}
		}
	}
}

// Metadata that is not the object's own is a part like any other.
func TestPartsOfAnObject(t *testing.T) {
	p, err := partsOf(cogs())
	if err != nil {
		t.Fatal(err)
	}
	of := func(template string, status int64) *cog {
		return &cog{Template: metav1.ObjectMeta{Name: template}, Status: cogStatus{Teeth: status}, ObjectMeta: metav1.ObjectMeta{Name: "one"}}
	}
	if p.sameRest(of("a", 1), of("b", 1), false) || !p.sameRest(of("a", 1), of("a", 2), false) || p.sameRest(of("a", 1), of("a", 2), true) {
		t.Error("what differs is not told")
	}
	got := of("a", 1)
	p.keepRest(got, of("b", 2))
	if got.Template.Name != "b" || got.Status.Teeth != 1 {
		t.Errorf("keeping the rest gives %v", got)
	}
	p.keepStatus(got, of("c", 3))
	if got.Template.Name != "b" || got.Status.Teeth != 3 {
		t.Errorf("keeping the status gives %v", got)
	}
	if _, err := partsOf(&kind.Kind{New: func() runtime.Object { return &secretive{} }}); err == nil || !strings.Contains(err.Error(), "hidden") {
		t.Errorf("a field that would not be stored: %v", err)
	}
}

type secretive struct {
	metav1.TypeMeta
	metav1.ObjectMeta
	hidden int
}

func (s *secretive) DeepCopyObject() runtime.Object { return &secretive{hidden: s.hidden} }

// A status keeps what it is not about, and a part what it does not take.
func TestWhatWritesOfPartsTake(t *testing.T) {
	k := cogs()
	s := strategyFor(t, k)
	sent := func() *cog {
		return &cog{
			ObjectMeta: metav1.ObjectMeta{Name: "one", Labels: map[string]string{"a": "b"}, Finalizers: []string{"x"}, Generation: 9, ResourceVersion: "5"},
			Spec:       cogSpec{Text: "b", Teeth: 2, Hidden: 1 << 60}, Status: cogStatus{Teeth: 8},
		}
	}
	stored := &cog{ObjectMeta: metav1.ObjectMeta{Name: "one", Generation: 3}, Spec: cogSpec{Text: "a", Teeth: 1, Hidden: 1<<53 + 1}}
	for name, c := range map[string]struct {
		strategy   rest.RESTUpdateStrategy
		spec       cogSpec
		teeth      int64
		generation int64
	}{
		"status": {statusStrategy{s}, stored.Spec, 8, 3},
		"words":  {updateStrategy{s, k.Subresources[0].Update}, cogSpec{Text: "b", Teeth: 1, Hidden: 1<<53 + 1}, 0, 4},
		"main":   {s, sent().Spec, 0, 4},
	} {
		got := sent()
		c.strategy.PrepareForUpdate(requested(t, "v1"), got, stored)
		if got.Spec != c.spec || got.Status.Teeth != c.teeth || got.Generation != c.generation || got.ResourceVersion != "5" || (got.Labels != nil) != (name == "main") {
			t.Errorf("%s: %+v", name, got)
		}
		if c.strategy.AllowCreateOnUpdate(t.Context()) {
			t.Errorf("%s creates", name)
		}
	}
}

func TestScaleOfAnObject(t *testing.T) {
	s := &scale{kind: cogs()}
	got, err := s.of(&cog{ObjectMeta: metav1.ObjectMeta{Name: "one", UID: "u"}, Spec: cogSpec{Teeth: 3}, Status: cogStatus{Teeth: 2, Selector: "a=b"}})
	if err != nil || got.Spec.Replicas != 3 || got.Status.Replicas != 2 || got.Status.Selector != "a=b" || got.Name != "one" || got.UID != "u" {
		t.Errorf("%v, %v", got, err)
	}
	for _, teeth := range []int64{1<<31 - 1, -1 << 31} {
		if got, err := s.of(&cog{Spec: cogSpec{Teeth: teeth}}); err != nil || int64(got.Spec.Replicas) != teeth {
			t.Errorf("%d: %v, %v", teeth, got, err)
		}
	}
	for _, teeth := range []int64{1 << 31, 1<<32 + 1, -1<<31 - 1} {
		if got, err := s.of(&cog{Spec: cogSpec{Teeth: teeth}}); err == nil || !strings.Contains(err.Error(), fmt.Sprint(teeth)) {
			t.Errorf("%d is shown as %v, %v", teeth, got, err)
		}
	}
	s.kind.Scale.StatusReplicas = s.kind.Scale.SpecReplicas
	if got, err := s.of(&cog{Spec: cogSpec{Teeth: 3}}); err != nil || got.Spec.Replicas != 3 || got.Status.Replicas != 3 {
		t.Errorf("where both are one field: %v, %v", got, err)
	}
}

// Each version has the replicas where its own type has them; one that has none is known.
func TestReplicasOfEveryVersion(t *testing.T) {
	k := cogs(func(k *kind.Kind) {
		k.Spokes = append(k.Spokes, kind.Spoke{Version: "v1alpha1", NotServed: true, New: k.Spokes[0].New, NewList: k.Spokes[0].NewList})
	})
	got := replicasIn(k)
	want := map[string]string{"v1": ".spec.teeth", "v1beta1": ".settings.count", "v1alpha1": ""}
	if len(got) != len(want) {
		t.Errorf("%v", got)
	}
	for version, path := range want {
		if at, known := got[cogGroup+"/"+version]; !known || at.String() != path {
			t.Errorf("%s: %q, %v, want %q", version, at, known, path)
		}
	}
}

// A scale through any version is stored, and is of the object that it names.
func TestScaleIsWritten(t *testing.T) {
	all := opened(t, cogs())
	main, scale := all["cogs"].(rest.StandardStorage), all["cogs/scale"].(rest.Patcher)
	for _, version := range []string{"v1", "v1beta1"} {
		ctx := requested(t, version)
		one := &cog{ObjectMeta: metav1.ObjectMeta{Name: "one-" + version}, Spec: cogSpec{Text: "a", Teeth: 1, Hidden: 3}}
		if _, err := main.Create(requested(t, "v1"), one, nil, &metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		to := func(replicas int32, uid string) error {
			_, _, err := scale.Update(ctx, one.Name, rest.DefaultUpdatedObjectInfo(nil, func(_ context.Context, _, old runtime.Object) (runtime.Object, error) {
				s := old.(*autoscalingv1.Scale).DeepCopy()
				s.Spec.Replicas = replicas
				if uid != "" {
					s.ObjectMeta = metav1.ObjectMeta{Name: one.Name, UID: "another"}
				}
				return s, nil
			}), nil, nil, false, &metav1.UpdateOptions{})
			return err
		}
		for _, replicas := range []int32{5, 0} {
			if err := to(replicas, ""); err != nil {
				t.Fatal(err)
			}
			got, err := main.Get(ctx, one.Name, &metav1.GetOptions{})
			if want := (cogSpec{Text: "a", Teeth: int64(replicas), Hidden: 3}); err != nil || got.(*cog).Spec != want {
				t.Errorf("%s: %v, %v, want %v", version, got, err, want)
			}
		}
		if err := to(-1, ""); !apierrors.IsInvalid(err) {
			t.Errorf("%s: a negative one: %v", version, err)
		}
		if err := to(1, "another"); err == nil {
			t.Errorf("%s: that of another object is taken", version)
		}
	}
}

// A collection is deleted page by page, and its list is whole.
func TestCollectionsAreDeletedByPages(t *testing.T) {
	main := opened(t, cogs())["cogs"].(*resource)
	main.page = 2
	ctx := requested(t, "v1")
	for _, limit := range []int64{0, 3} {
		for i := range 5 {
			if _, err := main.Create(ctx, &cog{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("%d-%d", limit, i)}}, nil, &metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		deleted, err := main.DeleteCollection(ctx, rest.ValidateAllObjectFunc, &metav1.DeleteOptions{}, &internalversion.ListOptions{Limit: limit})
		if err != nil {
			t.Fatal(err)
		}
		left, err := main.List(ctx, &internalversion.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		want := 5
		if limit > 0 {
			want = int(limit)
		}
		if meta.LenList(deleted) != want || meta.LenList(left) != 5-want {
			t.Errorf("with a limit of %d: %d are deleted, %d are left", limit, meta.LenList(deleted), meta.LenList(left))
		}
	}
}

// A hook that gives up its request ends no process, wherever it runs.
func TestAHookThatAbortsItsRequest(t *testing.T) {
	k := cogs()
	abort := func(ctx context.Context) (err error) {
		defer recovered(ctx, k, "delete", &err)
		panic(http.ErrAbortHandler)
	}
	list := &kind.List[cog]{Items: []cog{{ObjectMeta: metav1.ObjectMeta{Name: "one"}}}}
	if _, err := DeleteEach(t.Context(), list, func(ctx context.Context, _ string) error { return abort(ctx) }); !apierrors.IsInternalError(err) {
		t.Errorf("on a goroutine of ours: %v", err)
	}
	defer func() {
		if p := recover(); p != http.ErrAbortHandler { //nolint:errorlint // it is the value itself that is thrown
			t.Errorf("on that of the request: %v", p)
		}
	}()
	_ = abort(t.Context()) // it does not return
	t.Error("on that of the request nothing is aborted")
}

func TestBodiesOfActions(t *testing.T) {
	type in struct{ A, B int }
	for body, want := range map[string]string{
		`{"A":1}`: "", ` {"A":1} `: "", "{}\n": "",
		`{"A":1}}`: "more than one value", `{"A":1}]`: "more than one value", `{"A":1}{}`: "more than one value", `{"A":1} x`: "more than one value",
		`{"C":1}`: "unknown field", `{"A":`: "EOF", `[]`: "cannot unmarshal",
	} {
		err := decode("application/json", []byte(body), &in{})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", body, err, want)
		}
	}
	var got in
	if err := decode("application/yaml; charset=utf-8", []byte("A: 1\nB: 2\n"), &got); err != nil || got != (in{1, 2}) {
		t.Errorf("YAML: %v, %v", got, err)
	}
	if err := decode("application/yaml", []byte("C: 1\n"), &got); err == nil {
		t.Error("YAML with an unknown field is taken")
	}
}
