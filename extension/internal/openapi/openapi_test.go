package openapi_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/emicklei/go-restful/v3"
	openapi_v2 "github.com/google/gnostic-models/openapiv2"
	"github.com/google/go-cmp/cmp"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	kindschema "k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kube-openapi/pkg/builder"
	"k8s.io/kube-openapi/pkg/builder3"
	"k8s.io/kube-openapi/pkg/common/restfuladapter"
	"k8s.io/kube-openapi/pkg/util/proto"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"github.com/annex-api/annex/extension/internal/openapi"
)

const extensionKinds = "x-kubernetes-group-version-kind"

func ready(t *testing.T) (*openapi.Definitions, []*restful.WebService) {
	t.Helper()
	d, err := openapi.New(published(t))
	if err != nil {
		t.Fatal(err)
	}
	services := installed(t, d)
	for range 2 { // the second time does no harm
		if err := d.NameSamples(services...); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Check(services...); err != nil {
		t.Fatal(err)
	}
	return d, services
}

func v2(t *testing.T, d *openapi.Definitions, services []*restful.WebService) *spec.Swagger {
	t.Helper()
	config := d.V2("test")
	config.Info.Version = "v1"
	document, err := builder.BuildOpenAPISpecFromRoutes(restfuladapter.AdaptWebServices(services), config)
	if err != nil {
		t.Fatal(err)
	}
	return document
}

// v3 gives the schemas of all services, as one.
func v3(t *testing.T, d *openapi.Definitions, services []*restful.WebService) map[string]*spec.Schema {
	t.Helper()
	document, err := builder3.BuildOpenAPISpecFromRoutes(restfuladapter.AdaptWebServices(services), d.V3("test"))
	if err != nil {
		t.Fatal(err)
	}
	return document.Components.Schemas
}

// kindsOf gives what a schema says to be, through JSON as clients get it.
func kindsOf(t *testing.T, s *spec.Schema) []kindschema.GroupVersionKind {
	t.Helper()
	raw, err := json.Marshal(s.Extensions[extensionKinds])
	if err != nil {
		t.Fatal(err)
	}
	var out []kindschema.GroupVersionKind
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestNamesHaveNoGoPathsAndOneKind(t *testing.T) {
	d, services := ready(t)
	byV2, byV3 := map[string]*spec.Schema{}, v3(t, d, services)
	for name, s := range v2(t, d, services).Definitions {
		byV2[name] = &s
	}
	for version, schemas := range map[string]map[string]*spec.Schema{"v2": byV2, "v3": byV3} {
		var own []string
		for name, s := range schemas {
			for _, gvk := range kindsOf(t, s) {
				if gvk.Version == "__internal" {
					t.Errorf("%s: %s is published as %s", version, name, gvk)
				}
			}
			if strings.HasPrefix(name, "io.k8s.apimachinery.") || strings.HasPrefix(name, "io.k8s.api.") {
				continue
			}
			own = append(own, name)
			kinds := kindsOf(t, s)
			if len(kinds) != 1 || !strings.HasSuffix(name, "."+kinds[0].Version+"."+kinds[0].Kind) {
				t.Errorf("%s: %s is published as %v", version, name, kinds)
			}
		}
		slices.Sort(own)
		if diff := cmp.Diff([]string{
			"com.example.v1.Sprocket", "com.example.v1.SprocketList",
			"com.example.v1.Widget", "com.example.v1.WidgetList",
			"com.example.v1beta1.Widget", "com.example.v1beta1.WidgetList",
			"io.k8s.metrics.v1.Gadget", "io.k8s.metrics.v1.Gadgets",
		}, own); diff != "" {
			t.Errorf("%s: %s", version, diff)
		}
		for name, kind := range map[string]string{
			"io.k8s.api.autoscaling.v1.Scale":                      "autoscaling/v1, Kind=Scale",
			"io.k8s.apimachinery.pkg.apis.meta.v1.Status":          "/v1, Kind=Status",
			"io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions":   "/v1, Kind=DeleteOptions",
			"io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent":      "metrics.k8s.io/v1, Kind=WatchEvent",
			"io.k8s.apimachinery.pkg.apis.meta.v1.APIResourceList": "/v1, Kind=APIResourceList",
		} {
			s := schemas[name]
			if s == nil || !slices.ContainsFunc(kindsOf(t, s), func(gvk kindschema.GroupVersionKind) bool { return gvk.String() == kind }) {
				t.Errorf("%s: %s is not published as %s", version, name, kind)
			}
		}
	}
}

// TestKubectlReadsV2 goes the way of kubectl: the document into models, and a model by
// its kind.
func TestKubectlReadsV2(t *testing.T) {
	d, services := ready(t)
	raw, err := json.Marshal(v2(t, d, services))
	if err != nil {
		t.Fatal(err)
	}
	document, err := openapi_v2.ParseDocument(raw)
	if err != nil {
		t.Fatal(err)
	}
	models, err := proto.NewOpenAPIData(document)
	if err != nil {
		t.Fatal(err)
	}

	object, ok := models.LookupModel("com.example.v1.Widget").(*proto.Kind)
	if !ok {
		t.Fatalf("a widget is %T", models.LookupModel("com.example.v1.Widget"))
	}
	if got := object.GetDescription(); got != "Widget is a thing with a size." {
		t.Errorf("description %q", got)
	}
	widgetSpec := object.Fields["spec"].(*proto.Kind)
	if got := widgetSpec.Fields["size"].GetDescription(); got != "Size is how large the widget is." {
		t.Errorf("spec.size: description %q", got)
	}
	if ref, ok := object.Fields["metadata"].(proto.Reference); !ok || !strings.HasSuffix(ref.Reference(), ".ObjectMeta") {
		t.Errorf("metadata is %v", object.Fields["metadata"])
	}
	if ports, ok := widgetSpec.Fields["ports"].(*proto.Array); !ok || ports.GetExtensions()["x-kubernetes-list-type"] != "map" {
		t.Errorf("spec.ports is %v", widgetSpec.Fields["ports"])
	}
	for _, field := range []string{"extra", "template"} {
		if _, ok := widgetSpec.Fields[field].(*proto.Arbitrary); !ok {
			t.Errorf("spec.%s is a %T, old kubectl would refuse its fields", field, widgetSpec.Fields[field])
		}
	}
	if _, ok := models.LookupModel("io.k8s.metrics.v1.Gadget").(*proto.Map); !ok {
		t.Errorf("a gadget is %T", models.LookupModel("io.k8s.metrics.v1.Gadget"))
	}
	sprocket := models.LookupModel("com.example.v1.Sprocket").(*proto.Kind)
	if _, ok := sprocket.Fields["spec"].(*proto.Kind).Fields["teeth"].(*proto.Primitive); !ok || sprocket.GetDescription() != "Sprocket turns." {
		t.Errorf("a sprocket is %v", sprocket)
	}

	for name, s := range v2(t, d, services).Definitions {
		if !strings.HasPrefix(name, "com.example.") {
			continue
		}
		raw, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		for _, unknown := range []string{"anyOf", "allOf", "oneOf", "nullable"} {
			if strings.Contains(string(raw), `"`+unknown+`"`) {
				t.Errorf("%s has %s, which v2 has not", name, unknown)
			}
		}
	}
}

// TestExplainFindsFieldsInV3 goes the way of `kubectl explain`: the schema by its kind,
// and the field through references.
func TestExplainFindsFieldsInV3(t *testing.T) {
	d, services := ready(t)
	schemas := v3(t, d, services)
	explain := func(group, version, kind, path string) *spec.Schema {
		for _, s := range schemas {
			if !slices.Contains(kindsOf(t, s), kindschema.GroupVersionKind{Group: group, Version: version, Kind: kind}) {
				continue
			}
			for step := range strings.SplitSeq(path, ".") {
				s = follow(schemas, s)
				for s != nil && s.Items != nil {
					s = follow(schemas, s.Items.Schema)
				}
				below, ok := s.Properties[step]
				if !ok {
					t.Errorf("%s has no %s", kind, path)
					return &spec.Schema{}
				}
				s = &below
			}
			return s
		}
		t.Errorf("there is no %s/%s %s", group, version, kind)
		return &spec.Schema{}
	}
	if got := explain("example.com", "v1", "Widget", "spec.size"); got.Description != "Size is how large the widget is." || *got.Maximum != 100 {
		t.Errorf("spec.size: %v", got)
	}
	if got := explain("example.com", "v1", "WidgetList", "items.spec.ports.target"); len(got.AnyOf) != 2 {
		t.Errorf("spec.ports.target: %v", got)
	}
	if got := explain("example.com", "v1", "Widget", "spec.mode"); len(got.AnyOf) != 2 {
		t.Errorf("spec.mode: %v", got)
	}
	if got := explain("example.com", "v1", "Widget", "metadata.labels"); got.AdditionalProperties == nil {
		t.Errorf("metadata.labels: %v", got)
	}
	if got := explain("example.com", "v1", "Widget", "spec.template.metadata.name"); !got.Type.Contains("string") {
		t.Errorf("spec.template.metadata.name: %v", got)
	}
	if got := explain("example.com", "v1beta1", "Widget", "apiVersion"); got.Description == "" {
		t.Errorf("apiVersion: %v", got)
	}
	if got := explain("example.com", "v1", "Sprocket", "spec.since"); got.Format != "date-time" {
		t.Errorf("spec.since: %v", got)
	}
	if got := explain("metrics.k8s.io", "v1", "Gadgets", "items.metadata.name"); !got.Type.Contains("string") {
		t.Errorf("items.metadata.name: %v", got)
	}
	selectable, err := json.Marshal(schemas["com.example.v1.Widget"].Extensions["x-kubernetes-selectable-fields"])
	if err != nil || string(selectable) != `[{"fieldPath":"spec.color"}]` {
		t.Errorf("selectable fields %s, %v", selectable, err)
	}
}

// follow gives what a schema refers to.
func follow(schemas map[string]*spec.Schema, s *spec.Schema) *spec.Schema {
	if len(s.AllOf) == 1 && s.AllOf[0].Ref.String() != "" {
		s = &s.AllOf[0]
	}
	if name, ok := strings.CutPrefix(s.Ref.String(), "#/components/schemas/"); ok {
		return schemas[name]
	}
	return s
}

func TestApplyMergesByTheSchema(t *testing.T) {
	d, _ := ready(t)
	converter, err := d.TypeConverter()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ apiVersion, kind, one, other, want string }{
		{"example.com/v1", "Widget", `{"ports":[{"name":"a"}],"tags":["x"]}`, `{"ports":[{"name":"b"},{"name":"a","target":80}],"tags":["y"]}`, `{"ports":[{"name":"b"},{"name":"a","target":80}],"tags":["x","y"]}`},
		{"example.com/v1", "Widget", `{"extra":{"a":{"b":1}},"nested":{"note":null}}`, `{"extra":{"a":{"c":"x"}},"nested":{"depth":2}}`, `{"extra":{"a":{"b":1,"c":"x"}},"nested":{"depth":2,"note":null}}`},
		{"example.com/v1beta1", "Widget", `{"a":{"b":1}}`, `{"a":{"c":1}}`, `{"a":{"b":1,"c":1}}`},
		{"example.com/v1", "Sprocket", `{"params":{"a":1.5},"parent":{"any":"thing"}}`, `{"params":{"b":2.5}}`, `{"params":{"a":1.5,"b":2.5},"parent":{"any":"thing"}}`},
		{"metrics.k8s.io/v1", "Gadget", `{"a":[1]}`, `{"b":[2]}`, `{"a":[1],"b":[2]}`},
	} {
		value := func(document string) *unstructured.Unstructured {
			u := &unstructured.Unstructured{}
			if err := u.UnmarshalJSON([]byte(`{"apiVersion":"` + c.apiVersion + `","kind":"` + c.kind + `","spec":` + document + `}`)); err != nil {
				t.Fatal(err)
			}
			return u
		}
		one, err := converter.ObjectToTyped(value(c.one))
		if err != nil {
			t.Errorf("%s: %v", c.kind, err)
			continue
		}
		other, err := converter.ObjectToTyped(value(c.other))
		if err != nil {
			t.Errorf("%s: %v", c.kind, err)
			continue
		}
		merged, err := one.Merge(other)
		if err != nil {
			t.Errorf("%s: %v", c.kind, err)
			continue
		}
		got := merged.AsValue().Unstructured().(map[string]any)["spec"]
		if diff := cmp.Diff(value(c.want).Object["spec"], got); diff != "" {
			t.Errorf("%s %s: %s", c.apiVersion, c.kind, diff)
		}
	}
	wrong := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "example.com/v1", "kind": "Widget", "spec": map[string]any{"shape": "round"}}}
	if _, err := converter.ObjectToTyped(wrong); err == nil || !strings.Contains(err.Error(), ".spec.shape") {
		t.Errorf("a field that the schema has not: %v", err)
	}
}

func TestSchemasAreNotChanged(t *testing.T) {
	kinds, same := published(t), published(t)
	d, err := openapi.New(kinds)
	if err != nil {
		t.Fatal(err)
	}
	services := installed(t, d)
	if err := errors.Join(d.NameSamples(services...), d.Check(services...)); err != nil {
		t.Fatal(err)
	}
	for i := range kinds {
		if diff := cmp.Diff(same[i].Schema, kinds[i].Schema); diff != "" {
			t.Errorf("%s: %s", &kinds[i], diff)
		}
	}
}

func TestWhatIsWrongIsNamed(t *testing.T) {
	gv := kindschema.GroupVersion{Group: "example.com", Version: "v1"}
	object := &structuralschema.Structural{Generic: structuralschema.Generic{Type: "object"}, ValueValidation: &structuralschema.ValueValidation{}}
	for name, c := range map[string]struct {
		kinds []openapi.Kind
		want  string
	}{
		"no schema":        {[]openapi.Kind{{GroupVersion: gv, Kind: "A"}}, "example.com/v1 A has no schema"},
		"twice":            {[]openapi.Kind{{GroupVersion: gv, Kind: "A", Schema: object}, {GroupVersion: gv, Kind: "A", Schema: object}}, "example.com/v1 A stands twice"},
		"a kind is a list": {[]openapi.Kind{{GroupVersion: gv, Kind: "A", ListKind: "B", Schema: object}, {GroupVersion: gv, Kind: "B", Schema: object}}, "example.com/v1 B stands twice"},
		"one Go type": {[]openapi.Kind{
			{GroupVersion: gv, Kind: "A", Schema: object, Type: reflect.TypeFor[widget]()},
			{GroupVersion: gv, Kind: "B", Schema: object, Type: reflect.TypeFor[widget]()},
		}, "example.com/v1 A and example.com/v1 B have one Go type, openapi_test.widget"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := openapi.New(c.kinds); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

func TestCheckNamesTheKind(t *testing.T) {
	t.Run("a sample without a name", func(t *testing.T) {
		d, err := openapi.New(published(t))
		if err != nil {
			t.Fatal(err)
		}
		err = d.Check(installed(t, d)...)
		if err == nil || !strings.Contains(err.Error(), "metrics.k8s.io/v1, Kind=Gadget: OpenAPI has no definition of k8s.io/apimachinery/pkg/apis/meta/v1/unstructured.Unstructured, see POST /apis/metrics.k8s.io/v1/gadgets") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a kind that is not published", func(t *testing.T) {
		all, err := openapi.New(published(t))
		if err != nil {
			t.Fatal(err)
		}
		services := installed(t, all)
		few, err := openapi.New(slices.DeleteFunc(published(t), func(k openapi.Kind) bool { return k.Kind == "Gadget" || k.Kind == "Sprocket" }))
		if err != nil {
			t.Fatal(err)
		}
		if err := few.NameSamples(services...); err == nil || !strings.Contains(err.Error(), `the sample is of "metrics.k8s.io/v1 Gadget", which is no kind of the server`) {
			t.Errorf("naming samples: got %v", err)
		}
		if err := few.Check(services...); err == nil || !strings.Contains(err.Error(), "example.com/v1, Kind=Sprocket: OpenAPI has no definition of github.com/annex-api/annex/extension/internal/openapi_test.sprocket, see ") {
			t.Errorf("check: got %v", err)
		}
	})
	t.Run("a schema that clients cannot read", func(t *testing.T) {
		kinds := published(t)
		broken := slices.IndexFunc(kinds, func(k openapi.Kind) bool { return k.Kind == "Sprocket" })
		kinds[broken].Schema = kinds[broken].Schema.DeepCopy()
		kinds[broken].Schema.Properties["spec"].Properties["teeth"] = structuralschema.Structural{Generic: structuralschema.Generic{
			Type: "integer", ExternalDocs: &structuralschema.ExternalDocumentation{Description: "a link that leads nowhere"},
		}}
		d, err := openapi.New(kinds)
		if err != nil {
			t.Fatal(err)
		}
		services := installed(t, d)
		if err := d.NameSamples(services...); err != nil {
			t.Fatal(err)
		}
		err = d.Check(services...)
		if err == nil || !strings.HasPrefix(err.Error(), "example.com/v1 Sprocket: OpenAPI v2: ") || !strings.Contains(err.Error(), "externalDocs") {
			t.Errorf("got %v", err)
		}
	})
}
