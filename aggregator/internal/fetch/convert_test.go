package fetch

import (
	"fmt"
	"strings"
	"testing"

	"github.com/go-logr/logr/funcr"
	"k8s.io/klog/v2"

	"github.com/annex-api/annex/aggregator/internal/backendtest"
)

// repeated is a text n times, with another number in place of each %d.
func repeated(n int, text string) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strings.ReplaceAll(text, "%d", fmt.Sprint(i+100)))
	}
	return b.String()
}

func nestedIn(depth int, before, inner, after string) string {
	return strings.Repeat(before, depth) + inner + strings.Repeat(after, depth)
}

// operation is a version 2 document with one operation, and more fields.
func operation(fields, more string) string {
	return `{"swagger":"2.0","info":{"title":"x","version":"1"},"paths":{"` + own + `":{"post":{` + fields + `}}}` + more + `}`
}

// needed is a version 2 document with n equal definitions, which its path names.
func needed(n int, definition string) string {
	return operation(`"responses":{"200":{"description":"","schema":{"properties":{`+repeated(n, `"%d":{"$ref":"#/definitions/%d"}`)+`}}}}`,
		`,"definitions":{`+repeated(n, `"%d":`+definition)+`}`)
}

// A server without version 3 decides how much is made of its version 2. Each
// document here is within the bounds of one, and some would become far larger.
func TestConversionToV3IsBounded(t *testing.T) {
	const memoryLimit = 640 << 20 // of all that is allocated, so that little is in use at once
	responses := func(n int, schema string) string {
		return `"responses":{` + repeated(n, `"%d":{"description":"","schema":`+schema+`}`) + `}`
	}
	types := func(n int) string { return `[` + repeated(n, `"a/%d"`) + `]` }
	long := `{"description":"` + strings.Repeat("d", 1<<20) + `"}`
	for what, c := range map[string]struct{ document, problem string }{
		"media types of responses": {operation(`"produces":`+types(2_000)+`,`+responses(800, `{}`), ``), "in copies"},
		"media types of a body":    {operation(`"consumes":`+types(2_000)+`,"parameters":[`+repeated(800, `{"in":"body","name":"body","schema":{}}`)+`],"responses":{}`, ``), "in copies"},
		"media types of all": {operation(`"responses":{`+repeated(800, `"%d":{"$ref":"#/responses/%d"}`)+`}`,
			`,"produces":`+types(2_000)+`,"responses":{`+repeated(800, `"%d":{"description":"","schema":{}}`)+`}`), "in copies"},
		"many values":       {operation(`"produces":`+types(500)+`,`+responses(1, `{"enum":[`+repeated(15_000, `1`)+`]}`), ``), "in copies"},
		"long schema":       {operation(`"produces":`+types(100)+`,`+responses(1, long), ``), "bytes in copies"},
		"long media types":  {operation(`"produces":["`+strings.Repeat("a", 1<<20)+`"],`+responses(100, `{}`), ``), "bytes in copies"},
		"deep":              {needed(100, nestedIn(242, `{"properties":{"a":`, `{}`, `}}`)), "steps"},
		"deep, then wide":   {needed(5, nestedIn(400, `{"items":`, `{"allOf":[`+repeated(15_000, `{}`)+`]}`, `}`)), "steps"},
		"deep in copies":    {operation(`"produces":`+types(100)+`,`+responses(1, nestedIn(240, `{"items":`, `{}`, `}`)), ``), "steps"},
		"foreign":           {needed(5, `{"properties":{`+repeated(4_900, `"%d":{"$ref":"x"}`)+`}}`), `names no definition`},
		"long and foreign":  {operation(`"produces":`+types(100)+`,`+responses(1, `{"$ref":"`+strings.Repeat("x", 1<<20)+`"}`), ``), "names no definition"},
		"foreign in copies": {operation(`"produces":`+types(1000)+`,`+responses(1, `{"properties":{"a":{"items":[{"additionalProperties":{"$ref":"#/parameters/a"}}]}}}`), ``), "names no definition"},

		"as many media types": {operation(`"produces":`+types(100)+`,`+responses(40, `{}`), ``), ""},
		"as long":             {operation(`"produces":`+types(3)+`,`+responses(1, long), ``), ""},
		"as deep":             {needed(12, nestedIn(242, `{"properties":{"a":`, `{}`, `}}`)), ""},
		"schemas":             {needed(4_900, `{"type":"object","items":{"items":{}},"x-a":[{},{},{}]}`), ""},
		"properties":          {needed(5, `{"properties":{`+repeated(9_900, `"%d":{}`)+`}}`), ""},
		"values":              {needed(5, `{"enum":[`+repeated(19_900, `""`)+`]}`), ""},
	} {
		t.Run(what, func(t *testing.T) {
			logged := 0
			defer klog.CaptureState().Restore()
			klog.SetLogger(funcr.New(func(_, line string) {
				if strings.Contains(line, "Swagger V2 Ref") {
					logged++
				}
			}, funcr.Options{}))
			s := backendtest.Start(t, "api", files{"/openapi/v2": c.document})
			f, l := newFetcher(t, patient())
			state := &openAPIState{}
			_, allocated := spent(func() { f.openAPI(t.Context(), s.Snapshot(name).Remotes(), state, true) })
			if made := len(l.get(name).OpenAPIV3.Data) > 0; made != (c.problem == "") || !strings.Contains(state.problem, c.problem) {
				t.Errorf("made: %v; %.300s", made, state.problem)
			}
			if len(state.problem) > 1000 {
				t.Errorf("the problem has %d bytes", len(state.problem))
			}
			if allocated > memoryLimit {
				t.Errorf("%d MiB for a document of %d KiB", allocated>>20, len(c.document)>>10)
			}
			if logged > 0 {
				t.Errorf("the library wrote %d lines", logged)
			}
		})
	}
}
