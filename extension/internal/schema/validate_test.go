package schema_test

import (
	"bytes"
	"context"
	"os"
	"reflect"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apiextensions-apiserver/pkg/registry/customresource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	kindschema "k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

func object(t testing.TB, document string) map[string]any {
	t.Helper()
	raw, err := yaml.YAMLToJSON([]byte(document))
	if err != nil {
		t.Fatal(err)
	}
	obj := map[string]any{}
	if err := utilyaml.Unmarshal(raw, &obj); err != nil {
		t.Fatal(err)
	}
	return obj
}

const widgetHead = "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w, namespace: ns}\n"

// TestSameVerdictsAsCustomResources sends the same objects through a Version and
// through the strategy of custom resources.
func TestSameVerdictsAsCustomResources(t *testing.T) {
	for name, c := range map[string]struct {
		obj, old string
		// wrong is the number of faults.
		wrong int
	}{
		"good":                        {obj: "spec: {size: 5, color: red, code: ABC, replicas: 2, since: '2026-01-01T00:00:00Z'}"},
		"no spec":                     {obj: "status: {phase: Ready}", wrong: 2},
		"required":                    {obj: "spec: {color: red}", wrong: 2},
		"bounds":                      {obj: "spec: {size: 0, code: abcd}", wrong: 2},
		"enum":                        {obj: "spec: {size: 5, color: pink}", wrong: 2},
		"types":                       {obj: "spec: {size: five, ports: {}}", wrong: 3},
		"a rule":                      {obj: "spec: {size: 5, minSize: 6}", wrong: 1},
		"format":                      {obj: "spec: {size: 5, since: yesterday}", wrong: 2},
		"a map's keys":                {obj: "spec: {size: 5, ports: [{name: a}, {name: a, protocol: UDP}]}", wrong: 1},
		"a set":                       {obj: "spec: {size: 5, tags: [a, b, a]}", wrong: 1},
		"too many":                    {obj: "spec: {size: 5, tags: [a, b, c, d, e, f, g, h, i]}", wrong: 2},
		"too long":                    {obj: "spec: {size: 5, ports: [{name: abcdefghijkl}]}", wrong: 2},
		"int or string":               {obj: "spec: {size: 5, ports: [{name: a, target: 80}, {name: b, target: http}, {name: c, target: true}]}", wrong: 4},
		"unknown fields are kept":     {obj: "spec: {size: 5, extra: {any: [1, {thing: x}]}}"},
		"quantities":                  {obj: "spec: {size: 5, limits: {cpu: 100m, memory: 5, disk: large}}", wrong: 1},
		"an embedded object":          {obj: "spec: {size: 5, template: {apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {}}}"},
		"an embedded object's type":   {obj: "spec: {size: 5, template: {metadata: {name: p}}}", wrong: 3},
		"an embedded object's labels": {obj: "spec: {size: 5, template: {apiVersion: v1, kind: Pod, metadata: {labels: {'-': x}}}}", wrong: 1},
		"nullable":                    {obj: "spec: {size: 5, nested: {note: null}}"},
		"negative replicas":           {obj: "spec: {size: 5, replicas: -1}\nstatus: {replicas: 4294967296}", wrong: 3},
		"update: good":                {obj: "spec: {size: 6, color: green}", old: "spec: {size: 5, color: red}"},
		"update: transition":          {obj: "spec: {size: 5, color: red}", old: "spec: {size: 5, color: blue}", wrong: 1},
		"update: first value":         {obj: "spec: {size: 5, color: red}", old: "spec: {size: 5}"},
		"update: bad and the same":    {obj: "spec: {size: 5, color: pink, tags: [a, a]}", old: "spec: {size: 6, color: pink, tags: [a, a]}"},
		"update: bad and changed":     {obj: "spec: {size: 5, color: pink}", old: "spec: {size: 5, color: black}", wrong: 2},
		"update: a rule, the same":    {obj: "spec: {size: 5, minSize: 6}\nstatus: {phase: Ready}", old: "spec: {size: 5, minSize: 6}"},
		"update: a rule, changed":     {obj: "spec: {size: 5, minSize: 7}", old: "spec: {size: 5, minSize: 6}", wrong: 1},
		"update: a list was bad":      {obj: "spec: {size: 5, tags: [a, a, b]}", old: "spec: {size: 5, tags: [a, a]}"},
		"update: a list was good":     {obj: "spec: {size: 5, tags: [a, a]}", old: "spec: {size: 5, tags: [a]}", wrong: 1},
	} {
		t.Run(name, func(t *testing.T) {
			v := read(t, crds(), "Widget").Version("v1")
			upstream := strategyOf(t, "v1")
			obj := object(t, widgetHead+c.obj)
			before := runtime.DeepCopyJSON(obj)
			var got, want field.ErrorList
			if c.old == "" {
				got = v.Validate(t.Context(), obj, nil)
				want = upstream.Validate(t.Context(), &unstructured.Unstructured{Object: obj})
			} else {
				old := object(t, widgetHead+c.old)
				got = v.Validate(t.Context(), obj, old)
				// An update of a custom resource has a resourceVersion.
				for _, o := range []map[string]any{obj, old} {
					o["metadata"].(map[string]any)["resourceVersion"] = "1"
				}
				before["metadata"].(map[string]any)["resourceVersion"] = "1"
				want = upstream.ValidateUpdate(t.Context(), &unstructured.Unstructured{Object: obj}, &unstructured.Unstructured{Object: old})
			}
			if diff := cmp.Diff(lines(want), lines(got)); diff != "" {
				t.Errorf("other than a custom resource's (-): %s", diff)
			}
			if len(got) != c.wrong {
				t.Errorf("got %d faults, want %d: %q", len(got), c.wrong, lines(got))
			}
			if diff := cmp.Diff(before, obj); diff != "" {
				t.Errorf("validation changed the object: %s", diff)
			}
		})
	}
}

func lines(errs field.ErrorList) []string {
	out := make([]string, 0, len(errs))
	for _, err := range errs {
		out = append(out, err.Error())
	}
	slices.Sort(out)
	return out
}

// upstreamStrategy is what kube-apiserver validates custom resources with.
type upstreamStrategy interface {
	Validate(context.Context, runtime.Object) field.ErrorList
	ValidateUpdate(ctx context.Context, obj, old runtime.Object) field.ErrorList
}

// strategyOf makes the strategy of the Widget in testdata, without this package.
func strategyOf(t *testing.T, version string) upstreamStrategy {
	t.Helper()
	content, err := os.ReadFile("testdata/crd/widgets.yaml")
	if err != nil {
		t.Fatal(err)
	}
	_, content, _ = bytes.Cut(content, []byte("---\n"))
	var crd apiextensionsv1.CustomResourceDefinition
	if err := yaml.UnmarshalStrict(content, &crd); err != nil {
		t.Fatal(err)
	}
	for _, v := range crd.Spec.Versions {
		if v.Name != version {
			continue
		}
		var props apiextensions.JSONSchemaProps
		if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(v.Schema.OpenAPIV3Schema, &props, nil); err != nil {
			t.Fatal(err)
		}
		structural, err := structuralschema.NewStructural(&props)
		if err != nil {
			t.Fatal(err)
		}
		values, _, err := validation.NewSchemaValidator(&props)
		if err != nil {
			t.Fatal(err)
		}
		var status apiextensions.CustomResourceSubresourceStatus
		var scale apiextensions.CustomResourceSubresourceScale
		if err := apiextensionsv1.Convert_v1_CustomResourceSubresourceScale_To_apiextensions_CustomResourceSubresourceScale(v.Subresources.Scale, &scale, nil); err != nil {
			t.Fatal(err)
		}
		return customresource.NewStrategy(nil, true, kindschema.GroupVersionKind{Group: crd.Spec.Group, Version: version, Kind: crd.Spec.Names.Kind},
			values, nil, structural, &status, &scale, v.SelectableFields)
	}
	t.Fatalf("no version %s", version)
	return nil
}

// What a Go type writes is other than what a client of a custom resource sends: its
// type may be missing, and nil is null.
func TestWhatGoTypesWriteIsValid(t *testing.T) {
	v := read(t, crds(), "Widget").Version("v1")
	obj := object(t, "metadata: {creationTimestamp: null}\nspec: {size: 5, ports: null, tags: null, limits: null, extra: null, nested: {depth: null, note: null}}")
	before := runtime.DeepCopyJSON(obj)
	for _, old := range []map[string]any{nil, runtime.DeepCopyJSON(obj)} {
		if errs := v.Validate(t.Context(), obj, old); len(errs) > 0 {
			t.Errorf("with old %v: %v", old, errs)
		}
	}
	if diff := cmp.Diff(before, obj); diff != "" {
		t.Errorf("validation changed the object: %s", diff)
	}
}

func TestDefaultAndPrune(t *testing.T) {
	v := read(t, crds(), "Widget").Version("v1")
	obj := object(t, widgetHead+`
oops: 1
spec:
  size: 5
  color: null
  code: null
  shape: round
  ports: [{name: a, weight: 3}, {name: b, protocol: UDP}]
  extra: {any: {thing: null}}
  nested: {note: null}
  template: {apiVersion: v1, kind: Pod, metadata: {name: p, nmae: q}, more: 1}
`)
	unknown := v.Prune(obj)
	if diff := cmp.Diff([]string{"oops", "spec.ports[0].weight", "spec.shape", "spec.template.metadata.nmae"}, unknown); diff != "" {
		t.Error(diff)
	}
	v.Default(obj)
	want := object(t, widgetHead+`
spec:
  size: 5
  color: red
  replicas: 1
  ports: [{name: a, protocol: TCP}, {name: b, protocol: UDP}]
  extra: {any: {thing: null}}
  nested: {note: null, depth: 3}
  template: {apiVersion: v1, kind: Pod, metadata: {name: p}, more: 1}
`)
	delete(obj["spec"].(map[string]any)["template"].(map[string]any)["metadata"].(map[string]any), "creationTimestamp")
	if diff := cmp.Diff(want, obj); diff != "" {
		t.Error(diff)
	}
}

func TestNullIsAbsentUnlessItIsAllowed(t *testing.T) {
	v := version(t, "a: {type: object, required: [b], properties: {b: {type: string, nullable: true}}}\nc: {type: object, required: [d], properties: {d: {type: string}}}")
	if errs := v.Validate(t.Context(), object(t, "a: {b: null}"), nil); len(errs) > 0 {
		t.Errorf("null that is allowed: %v", errs)
	}
	if errs := v.Validate(t.Context(), object(t, "c: {d: null}"), nil); len(errs) != 1 || errs[0].Type != field.ErrorTypeRequired {
		t.Errorf("null that is not allowed: %v", errs)
	}
}

// TestRequestsShareAVersion is for the race detector.
func TestRequestsShareAVersion(t *testing.T) {
	v := read(t, crds(), "Widget").Version("v1")
	fit, err := v.Fit(reflect.TypeFor[Widget]())
	if err != nil {
		t.Fatal(err)
	}
	old := object(t, widgetHead+"spec: {size: 5, ports: [{name: a}], nested: {note: null, depth: null}}")
	var requests sync.WaitGroup
	for i := range 8 {
		requests.Go(func() {
			obj := runtime.DeepCopyJSON(old)
			obj["spec"].(map[string]any)["size"] = int64(i)
			v.Prune(obj)
			v.Default(obj)
			if errs := v.Validate(t.Context(), obj, old); len(errs) > 0 != (i == 0) {
				t.Errorf("size %d: %v", i, errs)
			}
			w := &Widget{Spec: WidgetSpec{Ports: []Port{{}}}}
			fit.Default(w)
			*w.Spec.Replicas++
			if *w.Spec.Replicas != 2 || w.Spec.Ports[0].Protocol != "TCP" {
				t.Errorf("defaults: %+v", w.Spec)
			}
		})
	}
	requests.Wait()
}
