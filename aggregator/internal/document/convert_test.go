package document

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"k8s.io/kube-openapi/pkg/handler"
)

// The documents are those that the example server demo.annex.dev serves of its
// notices, made by k8s.io/kube-openapi, with descriptions cut short. Of version 2
// the answer 401 is left out, which only that has.
func TestV2FromV3IsWhatTheServerSaysItself(t *testing.T) {
	made, err := V2FromV3(t.Context(), read(t, "notices.v3.json"))
	if err != nil {
		t.Fatal(err)
	}
	got, want := comparable(t, made), comparable(t, read(t, "notices.v2.json"))
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := handler.ToProtoBinary(made); err != nil {
		t.Errorf("it cannot be encoded: %v", err)
	}
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// comparable writes shared parameters where they are used, and puts those and
// media types in order: servers differ there.
func comparable(t *testing.T, data []byte) map[string]any {
	t.Helper()
	var d map[string]any
	if err := json.Unmarshal(data, &d); err != nil {
		t.Fatal(err)
	}
	shared := object(d["parameters"])
	delete(d, "parameters")
	resolve := func(holder map[string]any) {
		list, _ := holder["parameters"].([]any)
		for i, p := range list {
			if name, found := strings.CutPrefix(text(object(p)["$ref"]), "#/parameters/"); found {
				list[i] = shared[name]
			}
			if object(list[i])["in"] == "body" {
				object(list[i])["name"] = "body"
			}
		}
		slices.SortFunc(list, func(a, b any) int { return cmp.Compare(text(object(a)["name"]), text(object(b)["name"])) })
		for _, field := range []string{"consumes", "produces"} {
			types, _ := holder[field].([]any)
			slices.SortFunc(types, func(a, b any) int { return cmp.Compare(text(a), text(b)) })
		}
	}
	for _, item := range object(d["paths"]) {
		resolve(object(item))
		for _, method := range methods {
			if operation := object(object(item)[method]); operation != nil {
				resolve(operation)
				delete(operation, "schemes") // version 3 has none
				if slices.Equal(toStrings(operation["consumes"]), []string{"*/*"}) && !hasBody(operation) {
					delete(operation, "consumes") // says nothing without a body
				}
			}
		}
	}
	return d
}

func hasBody(operation map[string]any) bool {
	list, _ := operation["parameters"].([]any)
	return slices.ContainsFunc(list, func(p any) bool { return object(p)["in"] == "body" })
}

func toStrings(v any) []string {
	var out []string
	list, _ := v.([]any)
	for _, s := range list {
		out = append(out, text(s))
	}
	return out
}

// Schema of version 3, and what becomes of it.
func TestV2OfASchema(t *testing.T) {
	for in, want := range map[string]string{
		`{"type":"string"}`: `{"type":"string"}`,
		`{"allOf":[{"$ref":"#/components/schemas/a"}],"default":{},"description":"d"}`: `{"$ref":"#/definitions/a","description":"d"}`,
		`{"type":"string","nullable":true}`:                                            `{}`,
		`{"oneOf":[{"type":"integer"},{"type":"string"}],"format":"int-or-string"}`:    `{"type":"string","format":"int-or-string"}`,
		`{"anyOf":[{"type":"object"}],"not":{},"type":"object"}`:                       `{"type":"object"}`,
		`{"type":"array","items":{"$ref":"#/components/schemas/a"}}`:                   `{"type":"array","items":{"$ref":"#/definitions/a"}}`,
		`{"additionalProperties":false}`:                                               `{"additionalProperties":false}`,
		`{"properties":{"a":{"nullable":true,"x-kubernetes-map-type":"atomic"}}}`:      `{"properties":{"a":{"x-kubernetes-map-type":"atomic"}}}`,
		`{"properties":{"$ref":{"type":"string"}}}`:                                    `{"properties":{"$ref":{"type":"string"}}}`,
		`{"allOf":[{"type":"object"},{"$ref":"#/components/schemas/a"}]}`:              `{"allOf":[{"type":"object"},{"$ref":"#/definitions/a"}]}`,
		`[1]`:    `[1]`,
		`"text"`: `"text"`,
	} {
		made, err := V2FromV3(t.Context(), []byte(`{"openapi":"3.0.0","components":{"schemas":{"s":`+in+`}}}`))
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		var out struct{ Definitions map[string]json.RawMessage }
		if err := json.Unmarshal(made, &out); err != nil {
			t.Fatal(err)
		}
		sameJSON(t, out.Definitions["s"], want)
	}
}

// sharing is a version 3 document with a body that n operations share.
func sharing(n int, schema string) []byte {
	var b strings.Builder
	b.WriteString(`{"openapi":"3.0.0","paths":{"/":{}`)
	for i := range n {
		fmt.Fprintf(&b, `,"%s/%d":{"put":{"requestBody":{"$ref":"#/components/requestBodies/b"}}}`, own, i)
	}
	b.WriteString(`},"components":{"requestBodies":{"b":{"content":{"application/json":{"schema":` + schema + `}}}}}}`)
	return []byte(b.String())
}

// A body that operations share stands in each of them in version 2.
func TestV2HasSharedBodiesInEachOperation(t *testing.T) {
	made, err := V2FromV3(t.Context(), sharing(2, `{"enum":[1,2,3]}`))
	if err != nil || strings.Count(string(made), `"enum":[1,2,3]`) != 2 {
		t.Errorf("got %s, %v", made, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := V2FromV3(ctx, sharing(1, `{}`)); !errors.Is(err, context.Canceled) {
		t.Errorf("went on after its context: %v", err)
	}
}

// Each document is within the bounds of a group version, and its version 2 far
// beyond them.
func TestV2OfSharedBodiesIsBounded(t *testing.T) {
	chains := `{"properties":{` + strings.Repeat(`"%d":`+strings.Repeat(`{"items":`, 480)+`{}`+strings.Repeat(`}`, 480)+`,`, 20) + `"x":{}}}`
	for what, data := range map[string][]byte{
		"many":       sharing(11_000, `{"enum":[1,2,3]}`),
		"deep":       sharing(200, numbered(chains)),
		"wide":       sharing(200, `{"enum":[`+strings.Repeat(`1,`, 19_000)+`1]}`),
		"long":       sharing(200, `{"description":"`+strings.Repeat("d", 200<<10)+`"}`),
		"extensions": sharing(200, `{"x-a":[`+strings.Repeat(`1,`, 19_000)+`1]}`),
	} {
		if err := WellFormed(data, maxGroupVersionTokens); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		var err error
		peak := peakHeap(func() { _, err = V2FromV3(t.Context(), data) })
		if err == nil || !strings.Contains(err.Error(), "in copies") {
			t.Errorf("%s: the bodies were copied: %v", what, err)
		}
		if peak > maxPeak {
			t.Errorf("%s: %d MiB", what, peak>>20)
		}
	}
}

// Documents as large as the bounds let them be.
func TestV2OfTheWorstIsBounded(t *testing.T) {
	schemas := func(n int, schema string) []byte {
		return []byte(numbered(`{"openapi":"3.0.0","components":{"schemas":{"a":{}` + strings.Repeat(`,"%d":`+schema, n) + `}}}`))
	}
	for name, data := range map[string][]byte{
		"schemas":       schemas(59_000, `{}`),
		"properties":    schemas(6, `{"properties":{`+strings.Repeat(`"%d":{},`, maxPartTokens/2-10)+`"x":{}}}`),
		"enums":         schemas(6, `{"enum":[`+strings.Repeat(`"",`, maxPartTokens-10)+`""]}`),
		"deep":          schemas(120, strings.Repeat(`{"items":`, 490)+`{}`+strings.Repeat(`}`, 490)),
		"long":          schemas(8, `{"description":"`+strings.Repeat("<", 1<<20)+`"}`),
		"shared":        sharing(5_000, `{}`),
		"shared, deep":  sharing(100, strings.Repeat(`{"items":`, 485)+`{}`+strings.Repeat(`}`, 485)),
		"shared, large": sharing(5, `{"enum":[`+strings.Repeat(`"",`, maxPartTokens-20)+`""]}`),
		"shared, long":  sharing(30, `{"description":"`+strings.Repeat("d", 128<<10)+`"}`),
	} {
		t.Run(name, func(t *testing.T) {
			if err := WellFormed(data, maxGroupVersionTokens); err != nil {
				t.Fatal(err)
			}
			peaksBelow(t, maxPeak, func(ctx context.Context) error {
				made, err := V2FromV3(ctx, data)
				if err == nil && len(made) < 1<<16 {
					t.Errorf("%d bytes were made", len(made))
				}
				return err
			})
		})
	}
}

func FuzzV2FromV3(f *testing.F) {
	f.Add([]byte(v3(own)))
	f.Add([]byte(`{"openapi":"3","paths":{"/a":{"parameters":[{"in":"query","name":"a","schema":{"allOf":[{"$ref":"#/x"}]}}],"put":{"requestBody":{"content":{"a/b":{"schema":true}}},"responses":{"2XX":{},"200":[]}}}}}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		made, err := V2FromV3(t.Context(), in)
		if err != nil {
			return
		}
		if _, err := ReadV2(made); err != nil {
			t.Errorf("%q became %q: %v", in, made, err)
		}
	})
}
