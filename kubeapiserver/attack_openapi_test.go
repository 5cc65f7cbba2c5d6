package kubeapiserver_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	test "github.com/annex-api/annex/kubeapiserver/kubeapiservertest"
)

// Threat hostile documents: well-formed OpenAPI that is dear to read, merge or
// write. It costs bounded time, and /openapi stays whole for everyone else.
func TestAttackOpenAPIThatIsDearToRead(t *testing.T) {
	nested := func(depth int, open, close string) string {
		return strings.Repeat(open, depth) + `{"type":"string"}` + strings.Repeat(close, depth)
	}
	cases := map[string]string{
		"deep items":      `"A":` + nested(4000, `{"type":"array","items":`, `}`),
		"deep properties": `"A":` + nested(4000, `{"properties":{"a":`, `}}`),
		"deep extension":  `"A":{"x-deep":` + nested(4000, `[`, `]`) + `}`,
		"deep and wide":   `"A":` + nested(9000, `{"type":"array","description":"`+strings.Repeat("d", 500)+`","items":`, `}`),
		"cycle":           `"A":{"$ref":"#/definitions/B"},"B":{"properties":{"a":{"$ref":"#/definitions/A"},"b":{"$ref":"#/definitions/B"}}}`,
		"self":            `"A":{"$ref":"#/definitions/A"}`,
		"missing":         `"A":{"properties":{"a":{"$ref":"#/definitions/Missing"},"c":{"$ref":"#/definitions/C"}}},"C":{"$ref":"https://evil.test/schema"}`,
		"many":            `"A":{"type":"object"}` + manyDefinitions(5_000),
	}
	for name, definitions := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			short := "dear-" + strings.ReplaceAll(name, " ", "-")
			v1 := gv(short+".openapi.attack", "v1")
			operation := strings.ReplaceAll(short, "-", "") + "Own"
			e := test.NewExtension(t, short, v1)
			document := `{"swagger":"2.0","info":{"title":"x","version":"1"},"definitions":{` + definitions + `},"paths":{"/apis/` + v1.String() + `/things":` +
				`{"get":{"operationId":"` + operation + `","responses":{"200":{"description":"OK","schema":{"$ref":"#/definitions/A"}}}}}}}`
			e.Handle("/openapi/v2", func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				_, _ = w.Write([]byte(document))
			})
			server.Expose(t, e.Name, "localhost")
			server.CreateRegistration(t, test.Registration(v1, e))
			server.AwaitAvailable(t, v1)
			start := time.Now()
			test.Eventually(t, func() string {
				if len(e.OwnRequests("/openapi/v2")) > 1 {
					return "" // asked for again: it was refused
				}
				if a := server.Get(t, test.Admin, "/openapi/v2"); strings.Contains(a.Body, operation) {
					return ""
				}
				return "the document is neither published nor refused"
			})
			for path, accept := range map[string]string{
				"/openapi/v2": "application/json", "/openapi/v2?proto": "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
				"/openapi/v3/apis/apps/v1": "application/com.github.proto-openapi.spec.v3@v1.0+protobuf",
			} {
				a := server.Get(t, test.Admin, path, "Accept", accept)
				if a.Code != http.StatusOK || !strings.Contains(a.Body, "listAppsV1NamespacedDeployment") {
					t.Errorf("%s as %s: %d, %d bytes", path, accept, a.Code, len(a.Body))
				}
			}
			for _, accept := range []string{"application/json", "application/com.github.proto-openapi.spec.v3@v1.0+protobuf"} {
				// Its own document may fail, but it may not take long.
				server.Get(t, test.Admin, "/openapi/v3/apis/"+v1.String(), "Accept", accept)
			}
			// All at once; what is not bounded takes minutes.
			bound := 15 * time.Second
			if raceEnabled {
				bound *= 4
			}
			if took := time.Since(start); took > bound {
				t.Errorf("reading OpenAPI took %v", took)
			}
		})
	}
}

func manyDefinitions(n int) string {
	var out strings.Builder
	for i := range n {
		fmt.Fprintf(&out, `,"D%d":{"properties":{"a":{"$ref":"#/definitions/D%d"}}}`, i, (i+1)%n)
	}
	return out.String()
}
