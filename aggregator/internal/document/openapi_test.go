package document

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	prefix  = "/apis/a.example/v1"
	own     = prefix + "/things"
	foreign = "/apis/apps/v1/deployments"
)

// v3 is an OpenAPI v3 document with those paths.
func v3(paths ...string) string {
	var items []string
	for _, p := range paths {
		items = append(items, fmt.Sprintf(`%q:{"get":{"responses":{"200":{"description":"OK"}}}}`, p))
	}
	return fmt.Sprintf(`{"openapi":"3.0.0","info":{"title":"x","version":"1"},"paths":{%s}}`, strings.Join(items, ","))
}

func confineV2(t *testing.T, in string) ([]byte, error) {
	t.Helper()
	d, err := ReadV2([]byte(in))
	if err != nil {
		return nil, err
	}
	return d.Below(t.Context(), prefix)
}

func confineV3(t *testing.T, in string) ([]byte, error) {
	t.Helper()
	d, err := ReadV3([]byte(in))
	if err != nil {
		return nil, err
	}
	return d.Below(t.Context(), prefix)
}

func sameJSON(t *testing.T, got []byte, want string) {
	t.Helper()
	var x, y any
	if err := json.Unmarshal(got, &x); err != nil {
		t.Fatalf("%v: %s", err, got)
	}
	if err := json.Unmarshal([]byte(want), &y); err != nil {
		t.Fatalf("%v: %s", err, want)
	}
	if diff := cmp.Diff(y, x); diff != "" {
		t.Error(diff)
	}
}

func TestV3IsConfinedToThePathsOfAGroupVersion(t *testing.T) {
	for in, want := range map[string]string{
		v3(own):                                 v3(own),
		v3():                                    v3(),
		v3(prefix):                              v3(prefix),
		v3(own, foreign):                        v3(own),
		v3("/apis/a.example/v11", "/api", ""):   v3(),
		v3(own, "/apis/a.example/v2/things"):    v3(own),
		v3(own, prefix+"/../../apps/v1/x"):      v3(own),
		`{"openapi":"3.0.0"}`:                   `{"openapi":"3.0.0","paths":{}}`,
		`{"openapi":"3.0.0","paths":null}`:      `{"openapi":"3.0.0","paths":{}}`,
		`{"openapi":"3.0.0","Paths":{"/x":{}}}`: `{"openapi":"3.0.0","paths":{}}`,
		`{"openapi":"3.0.0","x-a":1,"other":2}`: `{"openapi":"3.0.0","paths":{},"x-a":1}`,
		`{"paths":{}}`:                          "",
		`{"openapi":"3.0.0","paths":[]}`:        "",
		`{"openapi":"3.0.0","components":[]}`:   "",
		`[]`:                                    "",
		``:                                      "",
		`{"openapi":"3.0.0","paths":{}} and the rest`: "",
	} {
		got, err := confineV3(t, in)
		if want == "" {
			if err == nil {
				t.Errorf("%s: taken, as %s", in, got)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		sameJSON(t, got, want)
	}
}

// A document that says paths twice must not be read differently by clients:
// encoding/json merges the two, others take the first.
func TestAFieldThatStandsTwiceIsWrittenOnce(t *testing.T) {
	got, err := confineV3(t, `{"openapi":"3.0.0","paths":{"`+foreign+`":{}},"paths":{"`+own+`":{}}}`)
	if err != nil || strings.Contains(string(got), foreign) {
		t.Errorf("got %s, %v", got, err)
	}
}

// Of version 2 what is kept is what the kept paths need, by whatever way they
// refer to it.
func TestV2KeepsWhatItsPathsNeed(t *testing.T) {
	in := `{"swagger":"2.0","info":{"title":"x","version":"1"},"paths":{
		"` + own + `":{"parameters":[{"$ref":"#/parameters/p"}],"get":{"responses":{
			"200":{"schema":{"$ref":"#/definitions/one"}},"404":{"$ref":"#/responses/r"},
			"500":{"schema":{"items":{"$ref":"#/definitions/with~1slash"}}},
			"501":{"schema":{"$ref":"#/definitions/with%20blank"}},
			"502":{"schema":{"$ref":"#/definitions/deep/properties/x"}},
			"503":{"schema":{"$ref":"#/definitions/absent"}},
			"504":{"schema":{"properties":{"$ref":{"type":"string"}},"default":"#/definitions/text"}}}}},
		"` + foreign + `":{"get":{"responses":{"200":{"schema":{"$ref":"#/definitions/stolen"}}}}}},
		"parameters":{"p":{"in":"body","name":"b","schema":{"$ref":"#/definitions/ofParameter"}},"unused":{}},
		"responses":{"r":{"schema":{"$ref":"#/definitions/ofResponse"}},"unused":{}},
		"definitions":{"one":{"properties":{"self":{"$ref":"#/definitions/one"},"two":{"$ref":"#/definitions/two"}}},"two":{},
			"with/slash":{},"with blank":{},"deep":{},"text":{},"stolen":{},"ofParameter":{},"ofResponse":{},"unused":{}}}`
	got, err := confineV2(t, in)
	if err != nil {
		t.Fatal(err)
	}
	var out struct {
		Paths, Definitions, Parameters, Responses map[string]any
	}
	if err := json.Unmarshal(got, &out); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what string
		got  map[string]any
		want []string
	}{
		{"paths", out.Paths, []string{own}},
		{"definitions", out.Definitions, []string{"deep", "ofParameter", "ofResponse", "one", "two", "with blank", "with/slash"}},
		{"parameters", out.Parameters, []string{"p"}},
		{"responses", out.Responses, []string{"r"}},
	} {
		if diff := cmp.Diff(c.want, slices.Sorted(maps.Keys(c.got))); diff != "" {
			t.Errorf("%s: %s", c.what, diff)
		}
	}
}

func FuzzConfineV3(f *testing.F) {
	for _, seed := range []string{
		v3(own), v3(own, foreign), v3(), `{"openapi":"3","paths":{"":{}},"x":[1]}`, `{"openapi":1}`,
		`{"openapi":"3","paths":{"/a":{}},"paths":{"/apis/a.example/v1/":{}}}`, `{}`, `null`, `[[[[`, `{"openapi":"3","paths":{"/apis/a.example/v1/../x":{}}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		d, err := ReadV3(in)
		if err != nil {
			return
		}
		out, err := d.Below(t.Context(), prefix)
		if err != nil {
			return
		}
		var after struct {
			Paths map[string]json.RawMessage `json:"paths"`
		}
		if err := json.Unmarshal(out, &after); err != nil {
			t.Fatalf("%v: %q became %q", err, in, out)
		}
		for p := range after.Paths {
			if p != prefix && !strings.HasPrefix(p, prefix+"/") || slices.Contains(strings.Split(p, "/"), "..") {
				t.Errorf("%q is left in %q", p, out)
			}
		}
	})
}
