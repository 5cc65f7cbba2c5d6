package document

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"k8s.io/kube-openapi/pkg/aggregator"
	"k8s.io/kube-openapi/pkg/openapiconv"
	"k8s.io/kube-openapi/pkg/spec3"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// refer is a version 2 document whose one path, if it is to have one, takes the
// parameters, with what they may refer to.
func refer(parameters, definitions string) string {
	return fmt.Sprintf(`{"swagger":"2.0","info":{"title":"x","version":"1"},"paths":{%q:{"parameters":[{"$ref":"#/parameters/p0"}]}},"parameters":{%s},"definitions":{%s}}`,
		own, parameters, definitions)
}

// chained makes n entries, each naming the next.
func chained(n int, format string) string {
	var entries []string
	for i := range n {
		entries = append(entries, fmt.Sprintf(format, i, i+1))
	}
	return strings.Join(entries, ",")
}

func at(operation string) string {
	return fmt.Sprintf(`"paths":{%q:{"get":%s}}`, own, operation)
}

// endless are documents on which a reader who follows references has no end, or
// as good as none; by what is wrong with them.
var endless = map[string]struct{ version2, version3, problem string }{
	"a parameter that is itself": {
		version2: refer(`"p0":{"$ref":"#/parameters/p0"}`, ""),
		version3: `{"openapi":"3.0.0","components":{"parameters":{"p":{"$ref":"#/components/parameters/p"}}}}`,
		problem:  "refers to itself",
	},
	"two parameters that are each other": {
		version2: refer(`"p0":{"$ref":"#/parameters/p1"},"p1":{"$ref":"#/parameters/p0"}`, ""),
		version3: `{"openapi":"3.0.0","components":{"parameters":{"p":{"$ref":"#/components/parameters/q"},"q":{"$ref":"#/components/parameters/p"}}}}`,
		problem:  "refers to itself",
	},
	"the schema of a parameter that is the parameter": {
		version2: refer(`"p0":{"in":"body","name":"b","schema":{"properties":{"a":{"$ref":"#/parameters/p0"}}}}`, ""),
		version3: `{"openapi":"3.0.0","components":{"parameters":{"p":{"schema":{"$ref":"#/components/parameters/p"}}}}}`,
		problem:  "refers to itself",
	},
	"the items of a parameter that are the parameter": {
		version2: refer(`"p0":{"in":"query","name":"b","type":"array","items":{"$ref":"#/parameters/p0"}}`, ""),
		problem:  "refers to itself",
	},
	"a parameter behind a definition": {
		version2: refer(`"p0":{"in":"body","name":"b","schema":{"$ref":"#/definitions/d"}},"p1":{"$ref":"#/parameters/p1"}`, `"d":{"properties":{"a":{"$ref":"#/parameters/p1"}}}`),
		problem:  "refers to itself",
	},
	"a response that is itself": {
		version2: `{"swagger":"2.0",` + at(`{"responses":{"200":{"$ref":"#/responses/r"}}}`) + `,"responses":{"r":{"$ref":"#/responses/r"}}}`,
		version3: `{"openapi":"3.0.0","components":{"responses":{"r":{"$ref":"#/components/responses/r"}}}}`,
		problem:  "refers to itself",
	},
	"the schema of a response that is the response": {
		version2: `{"swagger":"2.0",` + at(`{"responses":{"200":{"$ref":"#/responses/r"}}}`) + `,"responses":{"r":{"schema":{"$ref":"#/responses/r"}}}}`,
		problem:  "refers to itself",
	},
	"a path that is itself": {
		version2: fmt.Sprintf(`{"swagger":"2.0","paths":{%q:{"$ref":"#/paths/%s"}}}`, own, strings.ReplaceAll(own, "/", "~1")),
		version3: fmt.Sprintf(`{"openapi":"3.0.0","paths":{%q:{"$ref":"#/paths/%s"}}}`, own, strings.ReplaceAll(own, "/", "%7E1")),
		problem:  "refers to itself",
	},
	"a path that is one of others, which is itself": {
		version2: fmt.Sprintf(`{"swagger":"2.0","paths":{%q:{"$ref":"#/paths/~1x"},"/x":{"$ref":"#/paths/~1x"}}}`, own),
		problem:  "refers to itself",
	},
	"a callback, a header, a link, an example, a body": {
		version3: `{"openapi":"3.0.0","components":{"callbacks":{"c":{"x":{"$ref":"#/components/callbacks/c"}}},"headers":{"h":{"$ref":"#/components/headers/h"}}}}`,
		problem:  "refers to itself",
	},
	"an item of a path, by where it stands": {
		version2: fmt.Sprintf(`{"swagger":"2.0","paths":{%q:{"parameters":[{"$ref":"#/paths/%s/parameters/0"}]}}}`, own, strings.ReplaceAll(own, "/", "~1")),
		problem:  "refers to itself",
	},
	"escaped": {
		version2: refer(`"p0":{"$ref":"#/parameters/%700"}`, ""),
		version3: `{"openapi":"3.0.0","components":{"parameters":{"p":{"\u0024ref":"#%2Fcomponents%2Fparameters%2F%70"}}}}`,
		problem:  "refers to itself",
	},
	"with an address": {
		version2: refer(`"p0":{"$ref":"swagger.json#/parameters/p0"}`, ""),
		version3: `{"openapi":"3.0.0","components":{"parameters":{"p":{"$ref":"https://a.example/openapi#/components/parameters/p"}}}}`,
		problem:  "refers to itself",
	},
	"the whole document": {
		version2: refer(`"p0":{"$ref":"#"}`, ""),
		version3: `{"openapi":"3.0.0","components":{"schemas":{"s":{"$ref":"#/components"}}}}`,
		problem:  "more than one part",
	},
	"a section": {
		version2: refer(`"p0":{"$ref":"#/parameters/"}`, ""),
		version3: `{"openapi":"3.0.0","components":{"schemas":{"s":{"$ref":"#/components/schemas"}}}}`,
		problem:  "more than one part",
	},
	"twice as much with each parameter": {
		version2: refer(chained(40, `"p%d":{"schema":{"allOf":[{"$ref":"#/parameters/p%[2]d"},{"$ref":"#/parameters/p%[2]d"}]}}`), ""),
		version3: `{"openapi":"3.0.0","components":{"headers":{` + chained(40, `"p%d":{"schema":{"allOf":[{"$ref":"#/components/headers/p%[2]d"},{"$ref":"#/components/headers/p%[2]d"}]}}`) + `}}}`,
		problem:  "more than 2000000 steps",
	},
	"many references to what is large": {
		version2: fmt.Sprintf(`{"swagger":"2.0","paths":{%q:{"parameters":[%s{}]}},"parameters":{"p":{"enum":[%s0]}}}`,
			own, strings.Repeat(`{"$ref":"#/parameters/p"},`, 30_000), strings.Repeat("0,", 10_000)),
		problem: "more than 2000000 steps",
	},
	"many definitions that refer to what is large": {
		version2: fmt.Sprintf(`{"swagger":"2.0","paths":{%q:{"parameters":[{"schema":{"$ref":"#/definitions/d0"}}]}},"parameters":{"p":{"enum":[%s0]}},"definitions":{%s}}`,
			own, strings.Repeat("0,", 10_000), chained(400, `"d%d":{"allOf":[{"$ref":"#/definitions/d%d"},{"$ref":"#/parameters/p"}]}`)),
		problem: "more than 2000000 steps",
	},
	"a long way through parameters": {
		version2: refer(chained(10_000, `"p%d":{"$ref":"#/parameters/p%d"}`), ""),
		problem:  "more than 500 references",
	},
	"a long way through definitions": {
		version2: refer(`"p0":{"schema":{"$ref":"#/definitions/d0"}}`, chained(50_000, `"d%d":{"$ref":"#/definitions/d%d"}`)),
		problem:  "more than 500 references",
	},
}

// These are refused by ours, and never reach a library, which has no end on
// some and a stack that ends the process on others.
func TestReferencesWithoutAnEndAreRefused(t *testing.T) {
	limitStack(t)
	for what, c := range endless {
		for version, in := range map[string]string{"v2": c.version2, "v3": c.version3} {
			if in == "" {
				continue
			}
			t.Run(what+", "+version, func(t *testing.T) {
				confine := map[string]func(*testing.T, string) ([]byte, error){"v2": confineV2, "v3": confineV3}[version]
				out, err := confine(t, in)
				if err == nil || !strings.Contains(err.Error(), c.problem) {
					t.Fatalf("got %.300s, %v, want an error with %q", out, err, c.problem)
				}
				if len(err.Error()) > 2000 {
					t.Errorf("an error of %d bytes", len(err.Error()))
				}
			})
		}
	}
}

// What is wrong in others' paths concerns nobody who asks for these.
func TestReferencesOfForeignPathsAreNotFollowed(t *testing.T) {
	in := strings.Replace(endless["a parameter that is itself"].version2, own, foreign, 1)
	if out, err := confineV2(t, in); err != nil || strings.Contains(string(out), "p0") {
		t.Errorf("got %s, %v", out, err)
	}
}

// Schemas refer to each other in circles everywhere, and parameters are shared
// by hundreds of operations.
func TestWhatServersReallySayIsKept(t *testing.T) {
	shared := fmt.Sprintf(`{"swagger":"2.0","paths":{%q:{"parameters":[%s{}]}},"parameters":{"p":{"name":"p","in":"query"}}}`,
		own, strings.Repeat(`{"$ref":"#/parameters/p"},`, 5_000))
	circle := refer(`"p0":{"in":"body","name":"b","schema":{"$ref":"#/definitions/a"}}`,
		`"a":{"properties":{"b":{"$ref":"#/definitions/b"}}},"b":{"items":{"$ref":"#/definitions/a"},"not":{"$ref":"#/definitions/b"}}`)
	for what, in := range map[string]string{"shared": shared, "circle": circle} {
		if _, err := confineV2(t, in); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	three := `{"openapi":"3.0.0","components":{"schemas":{"a":{"properties":{"b":{"$ref":"#/components/schemas/b"}}},"b":{"items":{"$ref":"#/components/schemas/a"}}}}}`
	if _, err := confineV3(t, three); err != nil {
		t.Error(err)
	}
}

// The walk looks at each token once, however often its part is referred to and
// for however many group versions: it is as long as the document, not longer.
func TestTheWalkIsAsLongAsTheDocument(t *testing.T) {
	for what, in := range endless {
		if in.version2 == "" {
			continue
		}
		d, err := ReadV2([]byte(in.version2))
		if err != nil {
			t.Fatal(err)
		}
		w := walk{document: d, costs: map[*part]int{}, reached: map[*part]bool{}}
		for _, p := range d.parts[pathItems] {
			w.reach(p, 0)
		}
		_ = w.run(t.Context())
		if w.tokens > len(in.version2) {
			t.Errorf("%s: %d tokens of %d bytes", what, w.tokens, len(in.version2))
		}
	}
}

func TestTheWalkEndsWithItsContext(t *testing.T) {
	d, err := ReadV2([]byte(fmt.Sprintf(`{"swagger":"2.0","paths":{%q:{"x-a":[%s0]}}}`, own, strings.Repeat("0,", 2*contextEvery))))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("gone")
	cancel(gone)
	if _, err := d.Below(ctx, prefix); !errors.Is(err, gone) {
		t.Errorf("got %v", err)
	}
}

// limitStack has a stack that grows without end found at once.
func limitStack(t interface{ Cleanup(func()) }) {
	before := debug.SetMaxStack(64 << 20)
	t.Cleanup(func() { debug.SetMaxStack(before) })
}

// FuzzReferences has the libraries go through whatever was let through, with
// little stack and little time.
func FuzzReferences(f *testing.F) {
	for _, c := range endless {
		for _, seed := range []string{c.version2, c.version3} {
			if len(seed) < 8<<10 {
				f.Add([]byte(seed))
			}
		}
	}
	f.Add([]byte(refer(`"p0":{"schema":{"$ref":"#/definitions/a"}}`, `"a":{"items":{"$ref":"#/definitions/a"}}`)))
	limitStack(f)
	f.Fuzz(func(t *testing.T, in []byte) {
		late := time.AfterFunc(20*time.Second, func() { panic(fmt.Sprintf("no end with %q", in)) })
		defer late.Stop()
		if d, err := ReadV2(in); err == nil {
			if own, err := d.Below(t.Context(), prefix); err == nil {
				throughLibrariesV2(t, own)
			}
		}
		if d, err := ReadV3(in); err == nil {
			if own, err := d.Below(t.Context(), prefix); err == nil {
				var read spec3.OpenAPI
				_ = json.Unmarshal(own, &read)
			}
		}
	})
}

func throughLibrariesV2(t *testing.T, data []byte) {
	_, _ = Guarded(func() (struct{}, error) {
		read := &spec.Swagger{}
		if err := read.UnmarshalJSON(data); err != nil {
			return struct{}{}, err
		}
		aggregator.FilterSpecByPathsWithoutSideEffects(read, []string{prefix})
		into := &spec.Swagger{SwaggerProps: spec.SwaggerProps{Definitions: spec.Definitions{}}}
		for range 2 {
			_ = aggregator.MergeSpecsIgnorePathConflictRenamingDefinitionsAndParameters(into, read)
		}
		openapiconv.ConvertV2ToV3(read)
		return struct{}{}, nil
	})
}
