package document

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	openapi_v2 "github.com/google/gnostic-models/openapiv2"
	"k8s.io/kube-openapi/pkg/util/proto"
	"k8s.io/kube-openapi/pkg/validation/spec"
	"pgregory.net/rapid"
)

// readV2Spec decodes a version 2 document as it is decoded before it is merged.
func readV2Spec(t interface{ Fatal(...any) }, data string) *spec.Swagger {
	s := &spec.Swagger{}
	if err := s.UnmarshalJSON([]byte(data)); err != nil {
		t.Fatal(err)
	}
	return s
}

// v2With is a version 2 document with one operation, and with definitions.
func v2With(operation, definitions, more string) string {
	return `{"swagger":"2.0","info":{"title":"x","version":"1"},"paths":{"/apis/a.example/v1/things":{"get":{` + operation + `}}},"definitions":{` + definitions + `}` + more + `}`
}

// asClientsDo reads a document as kubectl does.
func asClientsDo(t interface{ Fatal(...any) }, s *spec.Swagger) error {
	data, err := s.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := openapi_v2.ParseDocument(data)
	if err != nil {
		t.Fatal(fmt.Sprintf("%v\n%s", err, data))
	}
	_, err = proto.NewOpenAPIData(parsed)
	return err
}

func TestWhatMayBeMerged(t *testing.T) {
	const ok = `"responses":{"200":{"description":"OK"}}`
	of := func(schema string) string { return v2With(ok, `"a":`+schema+`,"b":{"type":"object"}`, ``) }
	returns := func(schema, more string) string {
		return v2With(`"responses":{"200":{"description":"OK","schema":`+schema+`}}`, `"b":{"type":"object"}`, more)
	}
	for what, c := range map[string]struct{ document, problem string }{
		"a reference":                        {of(`{"$ref":"#/definitions/b"}`), ""},
		"a reference in a circle":            {of(`{"type":"object","properties":{"a":{"$ref":"#/definitions/a"}}}`), ""},
		"what looks like a reference":        {of(`{"type":"object","default":{"$ref":"#/definitions/gone"},"example":{"$ref":"x"}}`), ""},
		"a property of that name":            {of(`{"type":"object","properties":{"$ref":{"type":"string"}}}`), ""},
		"kinds that are left open":           {of(`{"description":"anything"}`), ""},
		"a map":                              {of(`{"type":"object","additionalProperties":{"$ref":"#/definitions/b"}}`), ""},
		"to nowhere":                         {of(`{"$ref":"#/definitions/gone"}`), "gone"},
		"to nowhere, in a property":          {of(`{"properties":{"p":{"type":"array","items":{"$ref":"#/definitions/gone"}}}}`), "gone"},
		"to nowhere, in a map":               {of(`{"type":"object","additionalProperties":{"$ref":"#/definitions/gone"}}`), "gone"},
		"to nowhere, where models look not":  {of(`{"type":"object","allOf":[{"$ref":"#/definitions/gone"}]}`), "gone"},
		"to nowhere, negated":                {of(`{"not":{"$ref":"#/definitions/gone"}}`), "gone"},
		"to another document":                {of(`{"$ref":"other.json#/definitions/b"}`), "other.json"},
		"into a definition":                  {of(`{"$ref":"#/definitions/b/properties/c"}`), "properties/c"},
		"to what is no definition":           {of(`{"$ref":"#/parameters/b"}`), "#/parameters/b"},
		"with a type":                        {of(`{"$ref":"#/definitions/b","type":"object"}`), "beside"},
		"with properties":                    {of(`{"$ref":"#/definitions/b","properties":{"a":{}}}`), "beside"},
		"an array of anything":               {of(`{"type":"array"}`), "items"},
		"two types":                          {of(`{"type":["string","integer"]}`), "2 types"},
		"a type that is none":                {of(`{"type":"null"}`), "null"},
		"an answer":                          {returns(`{"$ref":"#/definitions/b"}`, ``), ""},
		"an answer to nowhere":               {returns(`{"$ref":"#/definitions/gone"}`, ``), "gone"},
		"a list of answers to nowhere":       {returns(`{"type":"array","items":{"$ref":"#/definitions/gone"}}`, ``), "gone"},
		"a parameter that is shared":         {v2With(`"parameters":[{"$ref":"#/parameters/p"}],`+ok, ``, `,"parameters":{"p":{"name":"p","in":"query","type":"string"}}`), ""},
		"with a name of its own kind":        {v2With(`"parameters":[{"$ref":"#/parameters/p~1q"}],`+ok, ``, `,"parameters":{"p/q":{"name":"p","in":"query","type":"string"}}`), ""},
		"a parameter from nowhere":           {v2With(`"parameters":[{"$ref":"#/parameters/gone"}],`+ok, ``, ``), "gone"},
		"a body to nowhere":                  {v2With(`"parameters":[{"in":"body","name":"body","schema":{"$ref":"#/definitions/gone"}}],`+ok, ``, ``), "gone"},
		"a shared parameter to nowhere":      {v2With(ok, ``, `,"parameters":{"p":{"name":"body","in":"body","schema":{"$ref":"#/definitions/gone"}}}`), "gone"},
		"an answer that is shared":           {v2With(`"responses":{"200":{"$ref":"#/responses/r"}}`, ``, `,"responses":{"r":{"description":"OK"}}`), ""},
		"an answer from nowhere":             {v2With(`"responses":{"200":{"$ref":"#/responses/gone"}}`, ``, ``), "gone"},
		"an answer from nowhere, by default": {v2With(`"responses":{"default":{"$ref":"#/responses/gone"}}`, ``, ``), "gone"},
	} {
		err := MakeMergeable(readV2Spec(t, c.document))
		if (err != nil) != (c.problem != "") || err != nil && !strings.Contains(err.Error(), c.problem) {
			t.Errorf("%s: %v, want %q", what, err, c.problem)
		}
		if err != nil && !errors.As(err, new(Unmergeable)) {
			t.Errorf("%s: %v is no fault of the document", what, err)
		}
		if s := readV2Spec(t, c.document); err == nil && asClientsDo(t, s) != nil {
			t.Errorf("%s: clients refuse it: %v", what, asClientsDo(t, s))
		}
	}
}

// Whatever the definitions are: what passes is what clients read.
func TestWhatPassesIsWhatClientsRead(t *testing.T) {
	var schema func(t *rapid.T, depth int) map[string]any
	schema = func(t *rapid.T, depth int) map[string]any {
		s := map[string]any{}
		if rapid.IntRange(0, 3).Draw(t, "reference") == 0 {
			s["$ref"] = rapid.SampledFrom([]string{"#/definitions/a", "#/definitions/a", "#/definitions/b", "#/definitions/c", "#/definitions/a/b", "#/parameters/a"}).Draw(t, "to")
		}
		switch rapid.IntRange(0, 9).Draw(t, "type") {
		case 0:
			s["type"] = rapid.SampledFrom([]any{"null", []any{"string", "object"}, "file"}).Draw(t, "odd")
		case 1, 2, 3:
			s["type"] = rapid.SampledFrom([]string{"string", "integer", "number", "boolean"}).Draw(t, "plain")
		case 4, 5, 6:
			s["type"] = rapid.SampledFrom([]string{"object", "array"}).Draw(t, "composed")
		}
		if depth == 0 {
			return s
		}
		if rapid.Bool().Draw(t, "properties") {
			s["properties"] = map[string]any{"p": schema(t, depth-1), "q": schema(t, depth-1)}
		}
		if rapid.Bool().Draw(t, "more") {
			s["additionalProperties"] = schema(t, depth-1)
		}
		switch rapid.IntRange(0, 3).Draw(t, "items") {
		case 0, 1:
			s["items"] = schema(t, depth-1)
		case 2:
			s["items"] = []any{schema(t, depth-1)}
		}
		return s
	}
	rapid.Check(t, func(t *rapid.T) {
		data, err := json.Marshal(map[string]any{
			"swagger": "2.0", "info": map[string]any{"title": "x", "version": "1"}, "paths": map[string]any{},
			"definitions": map[string]any{"a": schema(t, 2), "b": schema(t, 1)},
		})
		if err != nil {
			t.Fatal(err)
		}
		s := readV2Spec(t, string(data))
		c := mergeable{document: s}
		var ours error
		for _, d := range s.Definitions {
			ours = errors.Join(ours, c.model(&d))
		}
		if theirs := asClientsDo(t, s); (ours == nil) != (theirs == nil) {
			t.Fatalf("clients: %v; here: %v\n%s", theirs, ours, data)
		}
	})
}

// A merged document has no place for responses that operations share.
func TestSharedResponsesAreWrittenIntoOperations(t *testing.T) {
	s := readV2Spec(t, v2With(`"responses":{"200":{"$ref":"#/responses/r"},"default":{"$ref":"#/responses/of~1r"}}`, `"b":{"type":"object"}`,
		`,"responses":{"r":{"description":"well","schema":{"$ref":"#/definitions/b"}},"of/r":{"$ref":"#/responses/r"}}`))
	if err := MakeMergeable(s); err != nil {
		t.Fatal(err)
	}
	data, err := s.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	if got := string(data); strings.Contains(got, "#/responses") || strings.Count(got, `"description":"well"`) != 2 || len(s.Responses) > 0 {
		t.Errorf("%s", got)
	}
}

// Many operations that name one long response would make a short document long.
func TestCopiesOfSharedResponsesAreBounded(t *testing.T) {
	var codes []string
	for i := range 500 {
		codes = append(codes, fmt.Sprintf(`"%d":{"$ref":"#/responses/r"}`, i+100))
	}
	s := readV2Spec(t, v2With(`"responses":{`+strings.Join(codes, ",")+`}`, ``, `,"responses":{"r":{"description":"`+strings.Repeat("d", 100<<10)+`"}}`))
	if err := MakeMergeable(s); err == nil || errors.As(err, new(Unmergeable)) || !strings.Contains(err.Error(), "in copies") {
		t.Errorf("%v", err)
	}
}
