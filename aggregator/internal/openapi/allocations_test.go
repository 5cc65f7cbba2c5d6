//go:build !race

package openapi

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
)

// What one request for a document that did not change may allocate, however
// many extension servers there are: 66 are made with one local handler, more
// than half of them by asking it, and 41 for a document of one group version.
const (
	v2Allocations = 90
	v3Allocations = 60
)

func TestAllocationsOfUnchangedDocuments(t *testing.T) {
	f := newFixture(newLocal(map[string]string{"/openapi/v2": good("/api/v1/pods")}))
	var list []extension
	for i := range 200 {
		path := fmt.Sprintf("/apis/group%03d.example.com/v1/things", i)
		list = append(list, extension{
			group: fmt.Sprintf("group%03d.example.com", i), version: "v1", etag: "1",
			v2: swagger("A", map[string]string{"A": object(path)}, path), v3: longDoc(path),
		})
	}
	f.Sync(snapshot(list...))
	for _, c := range []struct {
		path  string
		serve http.HandlerFunc
		bound float64
	}{
		{"/openapi/v2", f.ServeV2, v2Allocations},
		{"/openapi/v3/apis/group001.example.com/v1", f.ServeV3, v3Allocations},
	} {
		r := httptest.NewRequest(http.MethodGet, c.path, nil)
		r.Header.Set("Accept-Encoding", "gzip")
		got := testing.AllocsPerRun(100, func() { c.serve(&discard{header: http.Header{}}, r) })
		t.Logf("%s: %.0f allocations", c.path, got)
		if got > c.bound {
			t.Errorf("%s: %.0f allocations, at most %.0f are allowed", c.path, got, c.bound)
		}
	}
}
