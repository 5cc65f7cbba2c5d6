package crd_test

import (
	"encoding/json"
	"go/format"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"

	"github.com/annex-api/annex/internal/scaffold"
	"github.com/annex-api/annex/internal/scaffold/crd"
)

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func save(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestDefinitionsComeBack makes types of definitions, and has controller-gen make
// definitions of the types: they say the same.
func TestDefinitionsComeBack(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds and runs controller-gen, which takes some seconds")
	}
	checkout, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	gomod := strings.Replace(string(readFile(t, filepath.Join(checkout, "go.mod"))), "module github.com/annex-api/annex", "module example.com/roundtrip", 1)
	save(t, filepath.Join(folder, "go.mod"), []byte(gomod))
	save(t, filepath.Join(folder, "go.sum"), readFile(t, filepath.Join(checkout, "go.sum")))

	before := map[string]apiextensionsv1.CustomResourceDefinitionSpec{}
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("%q, %v", files, err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		read, err := crd.Read(file, readFile(t, file))
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range read {
			for _, w := range k.Warnings {
				if !strings.Contains(w, "fractions of a second") && !strings.Contains(w, "v1alpha1 spec.") && !strings.Contains(w, "v1beta1 spec.") {
					t.Errorf("something is not carried: %s", w)
				}
			}
			before[k.Plural] = parse(t, k.Definition)
		}
		group, kinds, own, err := scaffold.FromCRDs(read, false)
		if err != nil {
			t.Fatal(err)
		}
		p := scaffold.New(name, "", "", group, scaffold.Annex{Version: "v0.1.0"})
		p.Kinds = kinds
		rendered, err := scaffold.RenderNew(p, own)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range rendered {
			if !strings.HasPrefix(f.Path, "api/") {
				continue
			}
			save(t, filepath.Join(folder, name, f.Path), f.Data)
			if formatted, err := format.Source(f.Data); err != nil {
				t.Errorf("%s does not parse: %v", f.Path, err)
			} else if name != "authority" && string(formatted) != string(f.Data) { // gofmt moves lists in comments
				t.Errorf("%s of %s is not formatted:\n%s", f.Path, name, cmp.Diff(string(formatted), string(f.Data)))
			}
		}
	}
	run := func(in string, env []string, name string, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir, cmd.Env = in, append(os.Environ(), env...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
	}
	tool := filepath.Join(t.TempDir(), "controller-gen")
	run(checkout, nil, "go", "build", "-modfile=tools/go.mod", "-o", tool, "sigs.k8s.io/controller-tools/cmd/controller-gen")
	run(folder, []string{"GOFLAGS=-mod=mod", "GOPROXY=off", "GOWORK=off"}, tool, "object", "crd:allowDangerousTypes=true", "paths=./...", "output:crd:dir=crd")
	run(folder, []string{"GOFLAGS=-mod=mod", "GOPROXY=off", "GOWORK=off"}, "go", "vet", "./...")

	made, err := filepath.Glob(filepath.Join(folder, "crd", "*.yaml"))
	if err != nil || len(made) != len(before) {
		t.Fatalf("%d definitions came back, of %d: %v", len(made), len(before), err)
	}
	for _, file := range made {
		after := parse(t, readFile(t, file))
		want, ok := before[after.Names.Plural]
		if !ok {
			t.Errorf("%s was not there", after.Names.Plural)
			continue
		}
		if diff := cmp.Diff(normal(t, want), normal(t, after)); diff != "" {
			t.Errorf("%s comes back otherwise (-before +after):\n%s", after.Names.Plural, diff)
		}
	}
}

func parse(t *testing.T, data []byte) apiextensionsv1.CustomResourceDefinitionSpec {
	t.Helper()
	var definition apiextensionsv1.CustomResourceDefinition
	if err := yaml.UnmarshalStrict(data, &definition); err != nil {
		t.Fatal(err)
	}
	return definition.Spec
}

// normal is what a definition says: without what is the same where it is left out.
func normal(t *testing.T, spec apiextensionsv1.CustomResourceDefinitionSpec) map[string]any {
	t.Helper()
	if spec.Conversion != nil && spec.Conversion.Strategy == apiextensionsv1.NoneConverter {
		spec.Conversion = nil
	}
	if spec.Names.ListKind == "" {
		spec.Names.ListKind = spec.Names.Kind + "List"
	}
	if spec.Names.Singular == "" {
		spec.Names.Singular = strings.ToLower(spec.Names.Kind)
	}
	slices.SortFunc(spec.Versions, func(a, b apiextensionsv1.CustomResourceDefinitionVersion) int { return strings.Compare(a.Name, b.Name) })
	for i := range spec.Versions {
		v := &spec.Versions[i]
		if s := v.Subresources; s != nil && s.Status == nil && s.Scale == nil {
			v.Subresources = nil
		}
		slices.SortFunc(v.SelectableFields, func(a, b apiextensionsv1.SelectableField) int { return strings.Compare(a.JSONPath, b.JSONPath) })
		for _, name := range []string{"apiVersion", "kind", "metadata"} {
			delete(v.Schema.OpenAPIV3Schema.Properties, name)
		}
	}
	data, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	var plain map[string]any
	if err := json.Unmarshal(data, &plain); err != nil {
		t.Fatal(err)
	}
	for _, v := range plain["versions"].([]any) {
		normalSchema(v.(map[string]any)["schema"].(map[string]any)["openAPIV3Schema"].(map[string]any))
	}
	return plain
}

func normalSchema(s map[string]any) {
	if text, ok := s["description"].(string); ok {
		s["description"] = strings.Join(strings.Fields(text), " ")
	}
	if required, ok := s["required"].([]any); ok {
		slices.SortFunc(required, func(a, b any) int { return strings.Compare(a.(string), b.(string)) })
	}
	if s["x-kubernetes-int-or-string"] == true {
		delete(s, "anyOf") // an API server adds it
	}
	if rules, ok := s["x-kubernetes-validations"].([]any); ok {
		slices.SortFunc(rules, func(a, b any) int {
			return strings.Compare(a.(map[string]any)["rule"].(string), b.(map[string]any)["rule"].(string))
		})
	}
	if properties, ok := s["properties"].(map[string]any); ok {
		for name, p := range properties {
			inner := p.(map[string]any)
			if name == "conditions" {
				withoutTexts(inner) // they are those of metav1.Condition
			}
			normalSchema(inner)
		}
	}
	for _, key := range []string{"items", "additionalProperties"} {
		if inner, ok := s[key].(map[string]any); ok {
			normalSchema(inner)
		}
	}
}

func withoutTexts(s map[string]any) {
	if items, ok := s["items"].(map[string]any); ok {
		delete(items, "description")
		for _, p := range items["properties"].(map[string]any) {
			delete(p.(map[string]any), "description")
		}
	}
}

// definition is one with a schema for spec.
func definition(spec string) string {
	return `apiVersion: apiextensions.k8s.io/v1
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
          spec: ` + spec + "\n"
}

// TestWhatIsNotCarriedIsNamed has a keyword in each that no marker says, or no Go type keeps.
func TestWhatIsNotCarriedIsNamed(t *testing.T) {
	for name, test := range map[string]struct{ file, want string }{
		"oneOf":       {definition(`{type: object, properties: {a: {type: string}}, oneOf: [{required: [a]}]}`), "v1 spec: oneOf is not carried"},
		"not":         {definition(`{type: object, properties: {a: {type: string, not: {enum: [x]}}}}`), "v1 spec.a: not is not carried"},
		"allOf below": {definition(`{type: object, properties: {a: {type: array, items: {type: string, allOf: [{minLength: 1}]}}}}`), "v1 spec.a[]: allOf is not carried"},
		"unknown fields": {
			definition(`{type: object, x-kubernetes-preserve-unknown-fields: true, properties: {a: {type: string}}}`),
			"v1 spec: unknown fields beside the known ones are not kept",
		},
		"default of items":    {definition(`{type: object, properties: {a: {type: array, items: {type: string, default: x}}}}`), "v1 spec.a[]: the default of items is not carried"},
		"nullable items":      {definition(`{type: object, properties: {a: {type: array, items: {type: string, nullable: true}}}}`), "v1 spec.a[]: nullable of items is not carried"},
		"additional is true":  {definition(`{type: object, properties: {a: {type: object, additionalProperties: true}}}`), "v1 spec.a: additionalProperties: true becomes"},
		"minimum of ports":    {definition(`{type: object, properties: {a: {x-kubernetes-int-or-string: true, minimum: 1}}}`), "v1 spec.a: minimum, maximum and multipleOf are not carried"},
		"pattern of ports":    {definition(`{type: object, properties: {a: {type: array, items: {x-kubernetes-int-or-string: true, pattern: "^a"}}}}`), "v1 spec.a[]: what is asked of it is not carried"},
		"enum of objects":     {definition(`{type: object, properties: {a: {type: string, enum: [null]}}}`), "v1 spec.a: enum is not carried"},
		"fractions of time":   {definition(`{type: object, properties: {a: {type: string, format: date-time}}}`), "v1 spec.a: date-time becomes metav1.Time, which cuts fractions of a second"},
		"integers in lists":   {definition(`{type: object, properties: {a: {type: array, default: [9007199254740993], items: {type: integer}}}}`), "v1 spec.a: the default [9007199254740993] is not carried"},
		"a wide integer":      {definition(`{type: object, properties: {a: {type: integer, enum: [9223372036854775808]}}}`), "v1 spec.a: enum is not carried"},
		"names":               {strings.Replace(definition(`{type: object, properties: {a: {type: string}}}`), "          spec:", "          metadata: {type: object, properties: {name: {type: string, maxLength: 5}}}\n          spec:", 1), "v1 metadata: what it asks of names"},
		"marker in the text":  {definition(`{type: object, properties: {a: {type: string, description: "one\n+optional two"}}}`), "v1 spec.a: lines of the description that begin with a plus"},
		"required, not there": {definition(`{type: object, required: [b], properties: {a: {type: string}}}`), `v1 spec: required names "b"`},
		"a webhook":           {strings.Replace(definition(`{type: object, properties: {a: {type: string}}}`), "  scope:", "  conversion: {strategy: Webhook, webhook: {conversionReviewVersions: [v1], clientConfig: {url: https://example.com/}}}\n  scope:", 1), "spec.conversion: the webhook is not carried"},
		"the list's kind":     {strings.Replace(definition(`{type: object, properties: {a: {type: string}}}`), "kind: Thing", "kind: Thing, listKind: Things", 1), "spec.names.listKind"},
		"required when stored": {
			strings.Replace(definition(`{type: object, properties: {a: {type: string}}}`), "        type: object\n", "        type: object\n        required: [spec]\n", 1) + strings.NewReplacer("storage: true", "storage: false", "name: v1", "name: v2").Replace(
				definition(`{type: object, properties: {a: {type: string}}}`)[strings.Index(definition(""), "  - name: v1"):]),
			"v2 spec: version v1, which is stored, requires it",
		},
		"only in a version": {
			definition(`{type: object, properties: {a: {type: string}}}`) + strings.NewReplacer("storage: true", "storage: false", "name: v1", "name: v2").Replace(
				definition(`{type: object, properties: {a: {type: integer}, b: {type: string}}}`)[strings.Index(definition(""), "  - name: v1"):]),
			"v2 spec.b: version v1, which is stored, has no such field",
		},
	} {
		t.Run(name, func(t *testing.T) {
			kinds, err := crd.Read("file.yaml", []byte(test.file))
			if err != nil {
				t.Fatal(err)
			}
			if all := strings.Join(kinds[0].Warnings, "\n"); !strings.Contains(all, "file.yaml: things.example.com: "+test.want) {
				t.Errorf("the warnings are %q, and do not say %q", all, test.want)
			}
		})
	}
}

// TestBadDefinitionsAreRefused with the file, the field and what would be right.
func TestBadDefinitionsAreRefused(t *testing.T) {
	good := definition(`{type: object, properties: {a: {type: string}}}`)
	for name, test := range map[string]struct{ file, want string }{
		"no YAML":         {"a: [", "file.yaml, document 1: it is no YAML"},
		"nothing":         {"", "file.yaml has no CustomResourceDefinition: kubectl get crd NAME -o yaml writes one"},
		"another object":  {"apiVersion: v1\nkind: ConfigMap\n", "file.yaml has no CustomResourceDefinition"},
		"v1beta1":         {strings.Replace(good, "k8s.io/v1", "k8s.io/v1beta1", 1), `things.example.com: apiVersion is "apiextensions.k8s.io/v1beta1", and "apiextensions.k8s.io/v1" would be right`},
		"a wrong field":   {strings.Replace(good, "scope:", "scpoe:", 1), `unknown field "spec.scpoe"`},
		"scope":           {strings.Replace(good, "Namespaced", "namespaced", 1), `spec.scope: "namespaced" is none; Namespaced or Cluster would be right`},
		"no kind":         {strings.Replace(good, "kind: Thing, ", "", 1), "file.yaml: things.example.com: spec.names.kind: it is missing"},
		"no storage":      {strings.Replace(good, "storage: true", "storage: false", 1), "0 versions have storage: true; one would be right"},
		"no schema":       {strings.Replace(good, "openAPIV3Schema", "openAPISchema", 1), "unknown field"},
		"no type":         {definition(`{type: object, properties: {a: {maxLength: 5}}}`), "file.yaml: things.example.com: v1 spec.a: it has no type: object, array"},
		"a wrong type":    {definition(`{type: object, properties: {a: {type: array, items: {type: int}}}}`), `v1 spec.a[]: the type "int" is none`},
		"items missing":   {definition(`{type: object, properties: {a: {type: array}}}`), "v1 spec.a.items: it is not one schema"},
		"a reference":     {definition(`{type: object, properties: {a: {$ref: "#/x"}}}`), "v1 spec.a.$ref: a CustomResourceDefinition may not have it"},
		"unique items":    {definition(`{type: object, properties: {a: {type: array, uniqueItems: true, items: {type: string}}}}`), "x-kubernetes-list-type: set would be right"},
		"both":            {definition(`{type: object, properties: {a: {type: object, properties: {b: {type: string}}, additionalProperties: {type: string}}}}`), "v1 spec.a: properties and additionalProperties exclude each other"},
		"a comma":         {definition(`{type: object, properties: {"a,b": {type: string}}}`), `the name "a,b" cannot be that of a Go field`},
		"any object":      {strings.Replace(good, "        properties:\n", "        x-kubernetes-preserve-unknown-fields: true\n        #", 1)[:strings.Index(good, "        properties:")+60], "v1 properties: there are none"},
		"a wrong rule":    {definition(`{type: object, properties: {a: {type: string, x-kubernetes-validations: [{rule: "self.size() >", message: x}]}}}`), "file.yaml: things.example.com: spec.validation.openAPIV3Schema.properties[spec].properties[a].x-kubernetes-validations[0].rule"},
		"a wrong default": {definition(`{type: object, properties: {a: {type: string, default: 5}}}`), "properties[a].default: Invalid value"},
		"a wrong group":   {strings.Replace(good, "things.example.com", "things.example.org", 1), "metadata.name: Invalid value"},
		"two are refused": {definition(`{type: object, properties: {a: {type: x}, b: {type: z}}}`), `v1 spec.b: the type "z" is none`},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := crd.Read("file.yaml", []byte(test.file)); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("the error is %v, and does not say %q", err, test.want)
			}
		})
	}
	if _, err := crd.Read("file.yaml", make([]byte, crd.MaxFile+1)); err == nil || !strings.Contains(err.Error(), "more than 8 MiB") {
		t.Errorf("a big file: %v", err)
	}
}

// TestZerosThatSaySomethingArePointers, as a value that is left out when it is zero cannot.
func TestZerosThatSaySomethingArePointers(t *testing.T) {
	for schema, want := range map[string]string{
		"{type: integer}": "A *int `",
		"{type: integer, format: int32, minimum: 1}": "A *int32 `",
		"{type: boolean}":                                 "A *bool `",
		"{type: string}":                                  "A string `",
		"{type: string, default: x}":                      "A *string `",
		"{type: string, default: x, minLength: 1}":        "A *string `",
		"{type: string, enum: [a, b]}":                    "A *string `",
		`{type: string, enum: [a, ""]}`:                   "A *string `",
		"{type: string, default: x, pattern: '^x+$'}":     "A *string `",
		"{type: string, format: date-time}":               "A *metav1.Time `",
		"{type: object, properties: {b: {type: string}}}": "A *ThingSpecA `",
		"{type: array, items: {type: string}}":            "A []string `",
		"{x-kubernetes-preserve-unknown-fields: true}":    "A *apiextensionsv1.JSON `",
	} {
		kinds, err := crd.Read("file.yaml", []byte(definition("{type: object, properties: {a: "+schema+"}}")))
		if err != nil {
			t.Fatal(err)
		}
		if source := string(kinds[0].Versions[0].Types); !strings.Contains(source, want) {
			t.Errorf("%s has no %q:\n%s", schema, want, source)
		}
	}
}

// TestIntegersKeepTheirDigits, also above 2^53, where floats do not have them all.
func TestIntegersKeepTheirDigits(t *testing.T) {
	for schema, want := range map[string]string{
		"{type: integer, enum: [9007199254740993, -9223372036854775808]}": "+kubebuilder:validation:Enum=9007199254740993;-9223372036854775808\n",
		"{type: integer, default: 9223372036854775807}":                   "+kubebuilder:default=9223372036854775807\n",
		"{type: integer, default: 7}":                                     "+default=7\n",
		"{type: integer, example: 9007199254740993}":                      "+kubebuilder:example=9007199254740993\n",
		"{type: number, enum: [0.5, 1e3]}":                                "+kubebuilder:validation:Enum=0.5;1000\n",
		"{type: array, default: [1, 2], items: {type: integer}}":          "+default=[1,2]\n",
	} {
		kinds, err := crd.Read("file.yaml", []byte(definition("{type: object, properties: {a: "+schema+"}}")))
		if err != nil {
			t.Fatal(err)
		}
		if source := string(kinds[0].Versions[0].Types); !strings.Contains(source, want) {
			t.Errorf("%s has no %q:\n%s", schema, want, source)
		}
		for _, w := range kinds[0].Warnings {
			t.Errorf("%s: %s", schema, w)
		}
	}
}

// TestNoFieldHasTheNameOfAMethod that is generated, or that a kind has by what it embeds.
func TestNoFieldHasTheNameOfAMethod(t *testing.T) {
	file := strings.Replace(definition("{type: object, properties: {deepCopy: {type: string}, deepCopyInto: {type: string}, getName: {type: string}}}"),
		"          spec:", "          deepCopyObject: {type: string}\n          getName: {type: string}\n          getObjectKind: {type: string}\n          spec:", 1)
	kinds, err := crd.Read("file.yaml", []byte(file))
	if err != nil {
		t.Fatal(err)
	}
	source := string(kinds[0].Versions[0].Types)
	for _, want := range []string{"DeepCopy2 string `json:\"deepCopy,", "DeepCopyInto2 string `json:\"deepCopyInto,", "DeepCopyObject2 string `", "GetObjectKind2 string `", "GetName2 string `", "GetName string `"} {
		if !strings.Contains(source, "\t"+want) {
			t.Errorf("there is no %q:\n%s", want, source)
		}
	}
}

// TestASpecThatMayBeMissing is a pointer only where its fields have defaults.
func TestASpecThatMayBeMissing(t *testing.T) {
	for fields, want := range map[string]string{
		"{a: {type: string}}": "Spec ThingSpec `json:\"spec,omitempty,omitzero\"`",
		"{a: {type: array, items: {type: object, properties: {b: {type: string, default: x}}}}}": "Spec *ThingSpec `json:\"spec,omitempty\"`",
	} {
		kinds, err := crd.Read("file.yaml", []byte(definition("{type: object, properties: "+fields+"}")))
		if err != nil {
			t.Fatal(err)
		}
		if source := string(kinds[0].Versions[0].Types); !strings.Contains(source, want) {
			t.Errorf("%s has no %q:\n%s", fields, want, source)
		}
	}
}

// FuzzRead: whatever a file has, it is an error or Go that parses.
func FuzzRead(f *testing.F) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(definition(`{type: object, properties: {a: {type: string, description: "*/ \u2028 x"}}}`)))
	f.Fuzz(func(t *testing.T, data []byte) {
		kinds, err := crd.Read("file.yaml", data)
		if err != nil {
			return
		}
		for _, k := range kinds {
			for _, v := range k.Versions {
				if scaffold.CheckKind(k.Kind) != nil || scaffold.CheckVersion(v.Name) != nil {
					continue // the project is refused
				}
				if _, err := format.Source(v.Types); err != nil {
					t.Errorf("it does not parse: %v\n%s", err, v.Types)
				}
			}
		}
	})
}
