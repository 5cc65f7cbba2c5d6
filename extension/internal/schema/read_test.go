package schema_test

import (
	"io/fs"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/annex-api/annex/extension/internal/schema"
)

// read gives the one kind of a name among the definitions of a file system.
func read(t testing.TB, files fs.FS, kind string) *schema.Definition {
	t.Helper()
	definitions, err := schema.Read(files)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range definitions {
		if d.Kind == kind {
			return d
		}
	}
	t.Fatalf("no %s among %d definitions", kind, len(definitions))
	return nil
}

func crds() fs.FS { return os.DirFS("testdata/crd") }

func TestRead(t *testing.T) {
	definitions, err := schema.Read(crds())
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, d := range definitions {
		kinds = append(kinds, d.Group+" "+d.Kind+" "+d.ListKind+" "+d.Plural+" "+d.Singular+" "+d.File)
	}
	if diff := cmp.Diff([]string{
		"metrics.k8s.io Gadget Gadgets gadgets gadget more/gadgets.json",
		"example.com Widget WidgetList widgets widget widgets.yaml",
	}, kinds); diff != "" {
		t.Fatal(diff)
	}

	gadget, widget := definitions[0], definitions[1]
	if gadget.Namespaced || !widget.Namespaced {
		t.Errorf("gadgets namespaced %v, widgets %v", gadget.Namespaced, widget.Namespaced)
	}
	if got := gadget.Version("v1").Warning; got != "no more gadgets" {
		t.Errorf("warning %q", got)
	}
	if widget.Line != 11 {
		t.Errorf("the definition begins in line %d", widget.Line)
	}
	if widget.Version("v3") != nil {
		t.Error("there is a v3")
	}

	v1, beta := widget.Versions[0], widget.Versions[2]
	if diff := cmp.Diff([]any{
		[]string{"wd"},
		[]string{"all"},
		"v1", true, true, false, "", "Widget is a thing with a size.",
		[]string{".spec.color"},
		true, &schema.Scale{SpecReplicas: ".spec.replicas", StatusReplicas: ".status.replicas", Selector: ".status.selector"},
		"v1beta1", true, false, true, "example.com/v1beta1 Widget is deprecated; use example.com/v1 Widget",
	}, []any{
		widget.ShortNames,
		widget.Categories,
		v1.Name, v1.Served, v1.Storage, v1.Deprecated, v1.Warning, v1.Description,
		v1.SelectableFields, v1.Status, v1.Scale,
		beta.Name, beta.Served, beta.Storage, beta.Deprecated, beta.Warning,
	}); diff != "" {
		t.Error(diff)
	}
	if len(v1.Columns) != 1 || v1.Columns[0].JSONPath != ".status.phase" {
		t.Errorf("columns %v", v1.Columns)
	}
	if beta.Status || beta.Scale != nil || !v1.Validates() || beta.Validates() {
		t.Errorf("v1beta1: status %v, scale %v, validates %v; v1 validates %v", beta.Status, beta.Scale, beta.Validates(), v1.Validates())
	}
}

// head is a definition with room for the properties of a spec, which stand in
// line 15 and after.
const head = `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {kind: Thing, plural: things}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
`

func thing(properties string) string {
	var indented strings.Builder
	for line := range strings.Lines(properties) {
		indented.WriteString("          " + line)
	}
	return head + indented.String() + "\n"
}

func TestWhatIsWrongIsNamed(t *testing.T) {
	const root = "spec.versions[0].schema.openAPIV3Schema"
	for name, c := range map[string]struct {
		files map[string]string
		want  []string
	}{
		"unknown field": {
			map[string]string{"a.yaml": strings.Replace(thing("a: {type: string}"), "scope:", "scoop: x\n  scope:", 1)},
			[]string{`a.yaml:6: spec.scoop: unknown field "spec.scoop"`},
		},
		"unknown field in items": {
			map[string]string{"a.yaml": thing("a:\n  type: array\n  items:\n    type: string\n    maxlength: 3\nb: {type: strin}")},
			[]string{"a.yaml:20: " + root + ".properties.a.items.maxlength: unknown field"},
		},
		"unknown field in all that a schema holds": {
			map[string]string{"a.yaml": thing("a:\n  type: array\n  items:\n    type: object\n    additionalProperties:\n      type: string\n      oops: 1\n      not: {oops: 1}\n      anyOf: [{oops: 1}]\nb: {type: object, properties: {c: {type: string, oops: 1}}}")},
			[]string{
				root + ".properties.a.items.additionalProperties.oops: unknown field", root + ".properties.a.items.additionalProperties.not.oops: unknown field",
				root + ".properties.a.items.additionalProperties.anyOf[0].oops: unknown field", root + ".properties.b.properties.c.oops: unknown field",
			},
		},
		"key twice": {
			map[string]string{"a.yaml": thing("a: {type: string}\na: {type: string}")},
			[]string{"a.yaml: ", `line 17: key "a" already set`},
		},
		"no YAML": {
			map[string]string{"a.yaml": thing("a: {type: string")},
			[]string{"a.yaml: ", "line 1"},
		},
		"wrong type of a field": {
			map[string]string{"a.yaml": thing("a: {type: string, maxLength: long}")},
			[]string{"a.yaml:1: ", "maxLength"},
		},
		"not structural": {
			map[string]string{"a.yaml": thing("a: {maximum: 3}\nb: {type: string}")},
			[]string{"a.yaml:16: " + root + ".properties[a].type: Required value"},
		},
		"two faults": {
			map[string]string{"a.yaml": thing("a: {maximum: 3}\nb: {minimum: 3}")},
			[]string{"a.yaml:16: " + root + ".properties[a].type", "a.yaml:17: " + root + ".properties[b].type"},
		},
		"a default of another type": {
			map[string]string{"a.yaml": thing("a:\n  type: integer\n  default: many")},
			[]string{"a.yaml:18: " + root + ".properties[a].default: Invalid value"},
		},
		"a default outside its enum": {
			map[string]string{"a.yaml": thing("a:\n  type: string\n  enum: [x]\n  default: y")},
			[]string{"a.yaml:19: " + root + ".properties[a].default: Unsupported value"},
		},
		"a rule that does not compile": {
			map[string]string{"a.yaml": thing("a:\n  type: string\n  x-kubernetes-validations:\n  - rule: self.size() > 'x'")},
			[]string{"a.yaml:19: " + root + ".properties[a].x-kubernetes-validations[0].rule", "compilation failed"},
		},
		"a rule that costs too much": {
			map[string]string{"a.yaml": thing("a:\n  type: array\n  items: {type: string}\n  x-kubernetes-validations:\n  - rule: self.all(x, self.all(y, self.all(z, x == y || y == z)))")},
			[]string{"a.yaml:20: " + root + ".properties[a].x-kubernetes-validations[0].rule", "cost"},
		},
		"two definitions of one kind": {
			map[string]string{"a.yaml": thing("a: {type: string}"), "z/b.yml": "\n" + thing("a: {type: string}")},
			[]string{
				"z/b.yml:5: spec.names.kind: Thing of group example.com is defined already, in a.yaml:4",
				"z/b.yml:5: spec.names.plural: things of group example.com is defined already, in a.yaml:4",
			},
		},
		"an old version of the API": {
			map[string]string{"a.yaml": strings.Replace(thing("a: {type: string}"), "apiextensions.k8s.io/v1", "apiextensions.k8s.io/v1beta1", 1)},
			[]string{"a.yaml:1: apiVersion: apiextensions.k8s.io/v1beta1 is not read; write apiextensions.k8s.io/v1"},
		},
		"a second document of a second file": {
			map[string]string{"a.yaml": thing("a: {type: string}"), "b.yaml": "kind: Other\n--- # more\n" + strings.ReplaceAll(strings.ReplaceAll(thing("a: {maximum: 3}"), "things", "others"), "Thing", "Other")},
			[]string{"b.yaml:18: " + root + ".properties[a].type"},
		},
		"two files": {
			map[string]string{"a.yaml": thing("a: {maximum: 3}"), "b.yaml": thing("a: {minimum: 3}")},
			[]string{"a.yaml:16: ", "b.yaml:16: "},
		},
	} {
		t.Run(name, func(t *testing.T) {
			files := fstest.MapFS{}
			for name, content := range c.files {
				files[name] = &fstest.MapFile{Data: []byte(content)}
			}
			definitions, err := schema.Read(files)
			if err == nil || definitions != nil {
				t.Fatalf("got %v, %v, want an error alone", definitions, err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got  %v\nwant %s", err, want)
				}
			}
		})
	}
}

func TestNothingIsReadFromNothing(t *testing.T) {
	definitions, err := schema.Read(fstest.MapFS{"a.yaml": {Data: []byte("---\n---\nkind: List\n")}, "b.yaml": {}})
	if err != nil || len(definitions) != 0 {
		t.Errorf("got %v, %v", definitions, err)
	}
}
