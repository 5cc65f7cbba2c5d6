package openapi

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	openapi_v3 "github.com/google/gnostic-models/openapiv3"
	"google.golang.org/protobuf/proto"
)

const gizmoKey = "apis/gizmo.example.com/v1"

func gizmoV3(doc string) extension {
	return extension{group: "gizmo.example.com", version: "v1", group2: 2000, version2: 10, v3: doc, etag: "gizmo-1"}
}

func url3(key, doc string) string { return "/openapi/v3/" + key + "?hash=" + hash([]byte(doc)) }

func TestV3RootAndConfinement(t *testing.T) {
	first := newLocal(map[string]string{"/openapi/v3": v3Root("api/v1", "apis/apps/v1", gizmoKey, "apis/gizmo.example.com")})
	second := newLocal(map[string]string{"/openapi/v3": strings.ReplaceAll(v3Root("api/v1", "apis/crd.example.com/v1"), "LOCAL", "SECOND")})
	f := newFixture(first, newLocal(nil), second)
	locals := map[string]string{
		"api/v1":                  "/openapi/v3/api/v1?hash=LOCAL",
		"apis/apps/v1":            "/openapi/v3/apis/apps/v1?hash=LOCAL",
		"apis/gizmo.example.com":  "/openapi/v3/apis/gizmo.example.com?hash=LOCAL",
		"apis/crd.example.com/v1": "/openapi/v3/apis/crd.example.com/v1?hash=SECOND",
	}
	with := func(u string) map[string]string {
		out := map[string]string{}
		for k, v := range locals {
			out[k] = v
		}
		if u != "" {
			out[gizmoKey] = u
		}
		return out
	}
	expectMap(t, "local only", f.roots(t), with("/openapi/v3/"+gizmoKey+"?hash=LOCAL"))

	// Whatever its document says, a remote adds its own key and no other.
	hostile := `{"paths":{"apis/apps/v1":{"serverRelativeURL":"https://evil.example.com/"}},"openapi":"3.0.0"}`
	f.Sync(snapshot(gizmoV3(hostile)))
	expectMap(t, "remote", f.roots(t), with(url3(gizmoKey, hostile)))
	f.Sync(snapshot(gizmoV3("")))
	expectMap(t, "remote without a document", f.roots(t), with(""))
	expect(t, "key without a document", f.get("/openapi/v3/"+gizmoKey).Code, 404)
	f.Sync(snapshot())
	expectMap(t, "local again", f.roots(t), with("/openapi/v3/"+gizmoKey+"?hash=LOCAL"))
	expect(t, "user", first.users["system:aggregator"] && len(first.users) == 1, true)
}

func TestV3RootETag(t *testing.T) {
	f := newFixture(newLocal(map[string]string{"/openapi/v3": v3Root("api/v1")}))
	f.Sync(snapshot(gizmoV3(v3Doc("a"))))
	w := f.get("/openapi/v3")
	expect(t, "type", w.Header().Get("Content-Type"), "application/json")
	etag := w.Header().Get("Etag")
	expect(t, "unchanged", f.get("/openapi/v3", "If-None-Match", etag).Code, http.StatusNotModified)
	f.Sync(snapshot(gizmoV3(v3Doc("a"))))
	expect(t, "equal snapshot", f.get("/openapi/v3", "If-None-Match", etag).Code, http.StatusNotModified)
	changed := gizmoV3(v3Doc("b"))
	changed.etag = "gizmo-2"
	f.Sync(snapshot(changed))
	expect(t, "changed", f.get("/openapi/v3", "If-None-Match", etag).Code, http.StatusOK)
}

func TestV3RemoteDocument(t *testing.T) {
	doc := v3Doc(strings.Repeat("long ", 1000))
	f := newFixture()
	f.Sync(snapshot(gizmoV3(doc)))
	plain := "/openapi/v3/" + gizmoKey
	w := f.get(plain)
	expect(t, "status", w.Code, 200)
	expect(t, "body", w.Body.String(), doc)
	expect(t, "type", w.Header().Get("Content-Type"), "application/json")
	expect(t, "etag", w.Header().Get("Etag"), `"`+hash([]byte(doc))+`"`)
	expect(t, "vary", strings.Contains(strings.Join(w.Header().Values("Vary"), ","), "Accept"), true)
	expect(t, "cached for ever", w.Header().Get("Cache-Control"), "")
	expect(t, "unchanged", f.get(plain, "If-None-Match", w.Header().Get("Etag")).Code, http.StatusNotModified)

	named := f.get(f.roots(t)[gizmoKey])
	expect(t, "status by hash", named.Code, 200)
	expect(t, "cache by hash", named.Header().Get("Cache-Control"), "public, immutable")
	expect(t, "expires by hash", named.Header().Get("Expires"), f.clock.now().AddDate(1, 0, 0).Format(http.TimeFormat))
	old := f.get(plain + "?hash=OLD")
	expect(t, "status by an old hash", old.Code, http.StatusMovedPermanently)
	expect(t, "location", old.Header().Get("Location"), url3(gizmoKey, doc))
	if _, err := url.Parse(old.Header().Get("Location")); err != nil {
		t.Error(err)
	}

	zipped := f.get(plain, "Accept-Encoding", "gzip")
	expect(t, "encoding", zipped.Header().Get("Content-Encoding"), "gzip")
	z, err := gzip.NewReader(zipped.Body)
	if err != nil {
		t.Fatal(err)
	}
	unzipped, err := io.ReadAll(z)
	expect(t, "unzipped", string(unzipped), doc)
	expect(t, "gzip error", err, nil)

	for accept, want := range map[string]string{
		"*/*":              jsonType,
		"application/json": jsonType,
		"application/com.github.proto-openapi.spec.v3@v1.0+protobuf":                        v3Types.protobuf,
		"application/com.github.proto-openapi.spec.v3.v1.0+protobuf":                        v3Types.protobuf,
		"application/com.github.proto-openapi.spec.v3@v1.0+protobuf, application/json;q=.5": v3Types.protobuf,
		"text/html, */*;q=0.1": jsonType,
	} {
		w := f.get(plain, "Accept", accept)
		expect(t, "type for "+accept, w.Header().Get("Content-Type"), want)
		if want != v3Types.protobuf {
			continue
		}
		var d openapi_v3.Document
		if err := proto.Unmarshal(w.Body.Bytes(), &d); err != nil || !strings.HasPrefix(d.Info.GetTitle(), "long") {
			t.Errorf("protobuf: %v %v", err, d.Info)
		}
	}
	expect(t, "unknown type", f.get(plain, "Accept", "text/css").Code, http.StatusNotAcceptable)
}

func TestV3BadDocumentHarmsOnlyItself(t *testing.T) {
	bad := gizmoV3(`{"openapi":7}`)
	other := extension{group: "widget.example.com", version: "v1", v3: v3Doc("widget"), etag: "w"}
	f := newFixture()
	f.Sync(snapshot(bad, other))
	const pb = "application/com.github.proto-openapi.spec.v3@v1.0+protobuf"
	expect(t, "bad as protobuf", f.get("/openapi/v3/"+gizmoKey, "Accept", pb).Code, http.StatusServiceUnavailable)
	expect(t, "other as protobuf", f.get("/openapi/v3/apis/widget.example.com/v1", "Accept", pb).Code, 200)
	expect(t, "keys", len(f.roots(t)), 2)
}

func TestV3KeysOfLocals(t *testing.T) {
	first := newLocal(map[string]string{"/openapi/v3": v3Root("api/v1", gizmoKey), "/openapi/v3/api/v1": "first", "/openapi/v3/" + gizmoKey: "local"})
	second := newLocal(map[string]string{"/openapi/v3": v3Root("api/v1", "apis/apps/v1"), "/openapi/v3/api/v1": "second", "/openapi/v3/apis/apps/v1": "second", "/openapi/v3/unlisted": "second"})
	f := newFixture(first, second)
	for key, want := range map[string]string{"api/v1": "first", "apis/apps/v1": "second", gizmoKey: "local"} {
		expect(t, key, f.get("/openapi/v3/"+key).Body.String(), want)
	}
	f.Sync(snapshot(gizmoV3(v3Doc("remote"))))
	expect(t, "hidden", f.get("/openapi/v3/"+gizmoKey).Body.String(), v3Doc("remote"))
	for _, key := range []string{"", "unlisted", "apis/apps", "apis/apps/v1/", "apis/gizmo.example.com/v2", "apis/apps/v1/../v1"} {
		expect(t, "status of "+key, f.get("/openapi/v3/"+key).Code, 404)
	}
}

func TestV3LocalRootsArePolledOnceASecond(t *testing.T) {
	l := newLocal(map[string]string{"/openapi/v3": v3Root("api/v1")})
	f := newFixture(l)
	f.Sync(snapshot())
	expect(t, "polls before any request", l.count("/openapi/v3"), 0)
	for range 10 {
		f.roots(t)
		f.get("/openapi/v3/unknown")
		f.clock.advance(50 * time.Millisecond)
	}
	expect(t, "polls within a second", l.count("/openapi/v3"), 1)
	l.set("/openapi/v3", v3Root("api/v1", "apis/new/v1"), `"second"`)
	expect(t, "keys before a second is over", len(f.roots(t)), 1)
	f.clock.advance(time.Second)
	expect(t, "keys after it", len(f.roots(t)), 2)
	expect(t, "polls", l.count("/openapi/v3"), 2)
	l.override(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) })
	f.clock.advance(time.Second)
	expect(t, "keys while it fails", len(f.roots(t)), 2)
}
