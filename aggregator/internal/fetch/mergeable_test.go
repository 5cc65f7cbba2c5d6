package fetch

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/annex-api/annex/aggregator/internal/backendtest"
)

const (
	// danglingV2 and danglingV3 say that things are of a kind that is not in the document.
	danglingV2 = `{"swagger":"2.0","info":{"title":"x","version":"1"},"paths":{"` + own +
		`":{"get":{"responses":{"200":{"description":"OK","schema":{"$ref":"#/definitions/thing"}}}}}},"definitions":{"thing":{"type":"object","properties":{"spec":{"$ref":"#/definitions/gone"}}}}}`
	danglingV3 = `{"openapi":"3.0.0","info":{"title":"x","version":"1"},"paths":{"` + own +
		`":{"get":{"responses":{"200":{"description":"OK","content":{"application/json":{"schema":{"$ref":"#/components/schemas/thing"}}}}}}}},"components":{"schemas":{"thing":{"type":"object","properties":{"spec":{"$ref":"#/components/schemas/gone"}}}}}}`
)

// Clients refuse the whole merged version 2 for one reference to nowhere. A version 3 is
// the server's own, and nobody else suffers from it.
func TestADocumentThatClientsRefuseIsNotMerged(t *testing.T) {
	root := v3Root(map[string]string{key: ownURL + "A"})
	for what, documents := range map[string]files{
		"both":    {"/openapi/v2": danglingV2, "/openapi/v3": root, ownURL + "A": danglingV3},
		"v2 only": {"/openapi/v2": danglingV2},
		"v3 only": {"/openapi/v3": root, ownURL + "A": danglingV3},
	} {
		t.Run(what, func(t *testing.T) {
			s := backendtest.Start(t, "api", documents)
			f, l := newFetcher(t, patient())
			f.logf = t.Logf
			members, state := s.Snapshot(name).Remotes(), &openAPIState{}
			f.openAPI(t.Context(), members, state, true)
			f.openAPI(t.Context(), members, state, true) // nothing is read again, and it is known all the same
			d := l.get(name)
			if len(d.OpenAPIV2.Data) > 0 {
				t.Errorf("to be merged is %s", d.OpenAPIV2.Data)
			}
			if got := pathsOf(t, d.OpenAPIV3); !slices.Equal(got, []string{own}) {
				t.Errorf("v3 has %q", got)
			}
			v2, v3 := f.Downloads()[name].OpenAPIV2, f.Downloads()[name].OpenAPIV3
			if !v2.Unmergeable || !strings.Contains(v2.Problem, `definition "thing"`) || !strings.Contains(v2.Problem, "gone") {
				t.Errorf("known of v2 is %+v", v2)
			}
			if v3.Unmergeable || v3.Problem != "" || v3.Bytes == 0 {
				t.Errorf("known of v3 is %+v", v3)
			}
		})
	}
}

// The last document that may be merged stays, and a mended one takes its place.
func TestADocumentThatClientsRefuseLeavesTheLastGoodOne(t *testing.T) {
	var mu sync.Mutex
	document := swagger(own)
	s := backendtest.Start(t, "api", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		files{"/openapi/v2": document}.ServeHTTP(w, r)
	}))
	f, l := newFetcher(t, patient())
	f.logf = t.Logf
	members, state := s.Snapshot(name).Remotes(), &openAPIState{}
	for _, c := range []struct {
		document, want string
		refused        bool
	}{{swagger(own), own, false}, {danglingV2, own, true}, {swagger(ownItem), ownItem, false}} {
		mu.Lock()
		document = c.document
		mu.Unlock()
		f.openAPI(t.Context(), members, state, true)
		v2 := f.Downloads()[name].OpenAPIV2
		if got := pathsOf(t, l.get(name).OpenAPIV2); !slices.Equal(got, []string{c.want}) || v2.Unmergeable != c.refused || (v2.Problem != "") != c.refused {
			t.Errorf("%q, known is %+v, want %q", got, v2, c.want)
		}
	}
}
