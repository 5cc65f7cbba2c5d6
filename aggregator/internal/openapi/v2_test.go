package openapi

import (
	"compress/gzip"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	openapi_v2 "github.com/google/gnostic-models/openapiv2"
	"google.golang.org/protobuf/proto"
	"k8s.io/kube-openapi/pkg/aggregator"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

const (
	thing    = "com.example.Thing"
	onGizmos = "/apis/gizmo.example.com/v1/gizmos"
	onWidget = "/apis/widget.example.com/v1/widgets"
)

func gizmo(doc string) extension {
	return extension{group: "gizmo.example.com", version: "v1", group2: 2000, version2: 10, v2: doc, etag: "gizmo-1"}
}

func widget(doc string) extension {
	return extension{group: "widget.example.com", version: "v1", group2: 1000, version2: 10, v2: doc, etag: "widget-1"}
}

func good(path string) string {
	return swagger(thing, map[string]string{thing: object(path)}, path)
}

func TestV2MergesInOrder(t *testing.T) {
	first := newLocal(map[string]string{"/openapi/v2": swagger("A", map[string]string{"A": object("first")}, "/version/", "/api/v1/pods")})
	second := newLocal(map[string]string{"/openapi/v2": swagger("B", map[string]string{"B": object("second")}, "/version/", "/apis/apps/v1/deployments")})
	nothing := newLocal(nil)
	f := newFixture(first, nothing, second)
	f.Sync(snapshot(
		extension{group: "low", version: "v1", group2: 10, v2: swagger("A", map[string]string{"A": object("low")}, "/apis/low/v1/x"), etag: "1"},
		extension{group: "high", version: "v1", group2: 20, version2: 1, v2: swagger("A", map[string]string{"A": object("high v1")}, "/apis/high/v1/x"), etag: "1"},
		extension{group: "high", version: "v2", group2: 20, version2: 9, v2: swagger("A", map[string]string{"A": object("high v2")}, "/apis/high/v2/x"), etag: "1"},
	))
	got := f.v2(t)
	expectMap(t, "paths", described(got), map[string]string{
		"/version/": "A", "/api/v1/pods": "A", "/apis/apps/v1/deployments": "B",
		"/apis/low/v1/x": "A", "/apis/high/v1/x": "A", "/apis/high/v2/x": "A",
	})
	definitions := map[string]string{}
	for name, d := range got.Definitions {
		definitions[name] = d.Description
	}
	expectMap(t, "definitions", definitions, map[string]string{
		"A": "first", "B": "second", "A_v2": "high v2", "A_v3": "high v1", "A_v4": "low",
	})
	ref := got.Paths.Paths["/apis/high/v2/x"].Get.Responses.StatusCodeResponses[200].Schema.Ref
	expect(t, "renamed reference", ref.String(), "#/definitions/A_v2")
	expect(t, "title", got.Info.Title, "test")
	expect(t, "user", fmt.Sprint(first.users), "map[system:aggregator:true]")
	expect(t, "log", len(f.log.all()), 0)
}

// The library alone fails here: it would keep "/apis/" by prefix, and with it
// the path that conflicts.
func TestV2PathConflictBelowAKeptPath(t *testing.T) {
	f := newFixture(
		newLocal(map[string]string{"/openapi/v2": swagger("A", map[string]string{"A": object("a")}, "/apis/apps/v1/x")}),
		newLocal(map[string]string{"/openapi/v2": swagger("B", map[string]string{"B": object("b")}, "/apis/", "/apis/apps/v1/x")}),
	)
	expectMap(t, "paths", described(f.v2(t)), map[string]string{"/apis/": "B", "/apis/apps/v1/x": "A"})
}

func TestV2QuarantinesABadDocument(t *testing.T) {
	deep := `{"swagger":"2.0","info":{"title":"","version":""},"paths":{},"definitions":{"A":` +
		strings.Repeat(`{"properties":{"a":`, 20000) + `{}` + strings.Repeat(`}}`, 20000) + `}}`
	local := swagger("A", map[string]string{"A": object("local"), "Options": kinds("options", "apps")}, "/api/v1/pods")
	for _, c := range []struct{ name, doc string }{
		{"not JSON", `<html>`},
		{"truncated", good(onWidget)[:60]},
		{"another type", `["swagger"]`},
		{"only a number", `7`},
		{"no protobuf", `{"swagger":"2.0","paths":{"` + onWidget + `":{"get":{"description":"an operation without responses"}}}}`},
		{"kinds are no list", swagger("A", map[string]string{"A": `{"x-kubernetes-group-version-kind":"apps"}`}, onWidget)},
		{"kinds of a number", swagger("Options", map[string]string{"Options": `{"type":"object","description":"options","x-kubernetes-group-version-kind":[7]}`}, onWidget)},
		{"deeply nested", deep},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(newLocal(map[string]string{"/openapi/v2": local}))
			want := map[string]string{"/api/v1/pods": "A", onGizmos: thing}
			bad := widget(c.doc)
			for i := range 3 {
				changing := gizmo(good(onGizmos)) // so that each round merges
				changing.etag = fmt.Sprint(i)
				f.Sync(snapshot(changing, bad))
				expectMap(t, "paths", described(f.v2(t)), want)
				expect(t, "protobuf", f.get("/openapi/v2", "Accept", "application/com.github.proto-openapi.spec.v2@v1.0+protobuf").Code, 200)
			}
			if log := f.log.all(); len(log) != 1 || !strings.Contains(log[0], "APIService v1.widget.example.com") {
				t.Errorf("one line should name the APIService: %q", log)
			}
			bad.etag = "widget-2"
			f.Sync(snapshot(gizmo(good(onGizmos)), bad))
			f.v2(t)
			expect(t, "log lines after its ETag changed", len(f.log.all()), 2)
			bad.v2, bad.etag = good(onWidget), "widget-3"
			f.Sync(snapshot(gizmo(good(onGizmos)), bad))
			want[onWidget] = thing
			expectMap(t, "paths when it is well again", described(f.v2(t)), want)
			expect(t, "log lines when it is well again", len(f.log.all()), 2)
		})
	}
}

func TestV2QuarantinesWhatMakesTheMergeFail(t *testing.T) {
	for _, c := range []struct {
		name string
		fail func() error
	}{
		{"error", func() error { return errors.New("no") }},
		{"panic", func() error { panic("no") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(newLocal(map[string]string{"/openapi/v2": good("/api/v1/pods")}))
			f.Service.v2.merge = func(dest, source *spec.Swagger) error {
				if err := aggregator.MergeSpecsIgnorePathConflictRenamingDefinitionsAndParameters(dest, source); err != nil {
					return err
				}
				if _, found := source.Paths.Paths[onGizmos]; found {
					return c.fail()
				}
				return nil
			}
			f.Sync(snapshot(gizmo(good(onGizmos)), widget(good(onWidget))))
			expectMap(t, "paths", described(f.v2(t)), map[string]string{"/api/v1/pods": thing, onWidget: thing})
			expect(t, "log lines", len(f.log.all()), 1)
		})
	}
}

// A definition without extensions makes the library write to a nil map when
// another names kinds for it; and what it writes must not stay in the source.
func TestV2MergesKindsWithoutChangingTheSources(t *testing.T) {
	// Options need the definition Bare.
	needing := func(options string) string {
		return strings.Replace(options, `"type":"object"`, `"type":"object","properties":{"bare":{"$ref":"#/definitions/Bare"}}`, 1)
	}
	f := newFixture(newLocal(map[string]string{
		"/openapi/v2": swagger("Options", map[string]string{"Options": needing(kinds("options", "apps")), "Bare": object("bare")}, "/api/v1/pods"),
	}))
	kindsOf := func(name string) string {
		return fmt.Sprint(f.v2(t).Definitions[name].Extensions[kindsKey])
	}
	f.Sync(snapshot(gizmo(swagger("Options", map[string]string{
		"Options": needing(kinds("options", "apps", "gizmo.example.com")), "Bare": kinds("bare", "gizmo.example.com"),
	}, onGizmos))))
	expect(t, "merged", kindsOf("Options"), "[map[group:apps kind:Options version:v1] map[group:gizmo.example.com kind:Options version:v1]]")
	expect(t, "added", kindsOf("Bare"), "[map[group:gizmo.example.com kind:Options version:v1]]")
	f.Sync(snapshot())
	expect(t, "after removal", kindsOf("Options"), "[map[group:apps kind:Options version:v1]]")
	expect(t, "after removal", kindsOf("Bare"), "<nil>")
}

// The reference lets an extension server name kinds of any group.
func TestV2DiffersConfinesKindsToTheGroup(t *testing.T) {
	f := newFixture()
	mine := strings.Replace(kinds("mine", "apps", "gizmo.example.com"), `"type":"object"`, `"type":"object","properties":{"a":{"$ref":"#/definitions/Theirs"}}`, 1)
	f.Sync(snapshot(gizmo(swagger("Mine", map[string]string{"Mine": mine, "Theirs": kinds("theirs", "apps", "")}, onGizmos))))
	got := f.v2(t)
	expect(t, "own", fmt.Sprint(got.Definitions["Mine"].Extensions[kindsKey]), "[map[group:gizmo.example.com kind:Options version:v1]]")
	theirs, found := got.Definitions["Theirs"]
	expect(t, "foreign", fmt.Sprint(found, theirs.Extensions[kindsKey]), "true <nil>")
}

func TestV2ConfinesPaths(t *testing.T) {
	f := newFixture()
	f.Sync(snapshot(gizmo(swagger("A", map[string]string{"A": object("a")},
		onGizmos, "/apis/gizmo.example.com/v10/x", "/apis/apps/v1/deployments", "/api/v1/pods", "/version/"))))
	expectMap(t, "paths", described(f.v2(t)), map[string]string{onGizmos: "A"})
}

func TestV2RemoteHidesLocal(t *testing.T) {
	doc := swagger("A", map[string]string{"A": object("kept")}, "/apis/gizmo.example.com/", "/apis/gizmo.example.com/v2/gizmos", "/api/v1/pods")
	doc = strings.Replace(doc, `"paths":{`, `"paths":{"`+onGizmos+`":{"get":{"description":"local","responses":{"200":{"description":"OK","schema":{"$ref":"#/definitions/Hidden"}}}}},`, 1)
	doc = strings.Replace(doc, `"definitions":{`, `"definitions":{"Hidden":{"type":"object"},`, 1)
	f := newFixture(newLocal(map[string]string{"/openapi/v2": doc}))
	base := map[string]string{"/apis/gizmo.example.com/": "A", "/apis/gizmo.example.com/v2/gizmos": "A", "/api/v1/pods": "A"}
	with := func(description string) map[string]string {
		out := map[string]string{onGizmos: description}
		for k, v := range base {
			out[k] = v
		}
		return out
	}
	expectMap(t, "local", described(f.v2(t)), with("local"))
	f.Sync(snapshot(gizmo("")))
	got := f.v2(t)
	expectMap(t, "remote without a document", described(got), base)
	if _, found := got.Definitions["Hidden"]; found {
		t.Error("a definition that only hidden paths used is still there")
	}
	f.Sync(snapshot(gizmo(good(onGizmos))))
	expectMap(t, "remote", described(f.v2(t)), with(thing))
	back := gizmo(good(onGizmos))
	back.local = true
	f.Sync(snapshot(back))
	expectMap(t, "local again", described(f.v2(t)), with("local"))
}

func TestV2LocalFailureKeepsTheLastGood(t *testing.T) {
	l := newLocal(map[string]string{"/openapi/v2": good("/api/v1/pods")})
	f := newFixture(l, newLocal(map[string]string{"/openapi/v2": good("/version/")}))
	want := map[string]string{"/api/v1/pods": thing, "/version/": thing}
	expectMap(t, "first", described(f.v2(t)), want)
	for name, h := range map[string]http.HandlerFunc{
		"503":      func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) },
		"404":      http.NotFound,
		"panic":    func(http.ResponseWriter, *http.Request) { panic("broken") },
		"abort":    func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"nonsense": func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("{")) },
		"silence":  func(http.ResponseWriter, *http.Request) {},
	} {
		l.override(h)
		for range 2 {
			expectMap(t, name, described(f.v2(t)), want)
		}
	}
	expect(t, "log lines: one for each kind of failure but 404", len(f.log.all()), 5)
	l.override(nil)
	l.set("/openapi/v2", good("/api/v1/nodes"), `"second"`)
	expectMap(t, "well again", described(f.v2(t)), map[string]string{"/api/v1/nodes": thing, "/version/": thing})
}

func TestV2IsNotMergedAgainWithoutChange(t *testing.T) {
	l := newLocal(map[string]string{"/openapi/v2": good("/api/v1/pods")})
	f := newFixture(l)
	merges := func(what string, want int64) {
		t.Helper()
		f.v2(t)
		f.get("/openapi/v2", "Accept", "application/com.github.proto-openapi.spec.v2@v1.0+protobuf")
		expect(t, "merges after "+what, f.Service.v2.merges.Load(), want)
	}
	f.Sync(snapshot(gizmo(good(onGizmos)), widget(good(onWidget))))
	expect(t, "merges before any request", f.Service.v2.merges.Load(), int64(0))
	merges("the first request", 1)
	merges("the same", 1)
	f.Sync(snapshot(widget(good(onWidget)), gizmo(good(onGizmos))))
	merges("an equal snapshot", 1)
	changed := gizmo(good(onGizmos))
	changed.v3 = v3Doc("gizmo")
	f.Sync(snapshot(changed, widget(good(onWidget))))
	merges("another v3 document", 1)
	changed.etag = "gizmo-2"
	f.Sync(snapshot(changed, widget(good(onWidget))))
	merges("another ETag", 2)
	l.set("/openapi/v2", good("/api/v1/nodes"), `"second"`)
	merges("another local ETag", 3)
	f.Sync(snapshot(changed))
	merges("a removal", 4)

	// Without ETags the content decides.
	changed.etag = ""
	l.set("/openapi/v2", good("/api/v1/nodes"), "")
	f.Sync(snapshot(changed))
	merges("ETags that went away", 5)
	f.Sync(snapshot(changed))
	merges("an equal snapshot without ETags", 5)
	changed.v2 = good(onGizmos + "/status")
	f.Sync(snapshot(changed))
	merges("another content", 6)
}

func TestV2ETagGzipAndTypes(t *testing.T) {
	f := newFixture(newLocal(map[string]string{"/openapi/v2": good("/api/v1/pods")}))
	var long []string
	for i := range 40 {
		long = append(long, fmt.Sprintf("%s/%d", onGizmos, i))
	}
	f.Sync(snapshot(gizmo(swagger("A", map[string]string{"A": object("a")}, long...))))
	w := f.get("/openapi/v2")
	etag := w.Header().Get("Etag")
	if len(etag) < 3 {
		t.Fatalf("ETag %q", etag)
	}
	again := f.get("/openapi/v2", "If-None-Match", etag)
	expect(t, "status with its ETag", again.Code, http.StatusNotModified)
	expect(t, "body with its ETag", again.Body.Len(), 0)
	expect(t, "unknown type", f.get("/openapi/v2", "Accept", "text/css").Code, http.StatusNotAcceptable)

	zipped := f.get("/openapi/v2", "Accept-Encoding", "gzip")
	expect(t, "encoding", zipped.Header().Get("Content-Encoding"), "gzip")
	if _, err := gzip.NewReader(zipped.Body); err != nil {
		t.Error(err)
	}

	pb := f.get("/openapi/v2", "Accept", "application/com.github.proto-openapi.spec.v2@v1.0+protobuf")
	expect(t, "type", pb.Header().Get("Content-Type"), "application/com.github.proto-openapi.spec.v2.v1.0+protobuf")
	var doc openapi_v2.Document
	if err := proto.Unmarshal(pb.Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	expect(t, "paths in protobuf", len(doc.Paths.Path), 41)

	f.Sync(snapshot())
	if got := f.get("/openapi/v2", "If-None-Match", etag); got.Code != 200 || got.Header().Get("Etag") == etag {
		t.Errorf("after a change: %d %s", got.Code, got.Header().Get("Etag"))
	}
}

// An extension server need not say "swagger" or "info", as the reference's
// own test of it does not.
func TestV2TakesABareDocument(t *testing.T) {
	f := newFixture()
	f.Sync(snapshot(gizmo(`{"paths":{"` + onGizmos + `":{}}}`)))
	expectMap(t, "paths", described(f.v2(t)), map[string]string{onGizmos: ""})
	expect(t, "log", len(f.log.all()), 0)
}

func TestV2WithNothingToMerge(t *testing.T) {
	f := newFixture(newLocal(nil))
	got := f.v2(t)
	expect(t, "swagger", got.Swagger, "2.0")
	expect(t, "protobuf", f.get("/openapi/v2", "Accept", "application/com.github.proto-openapi.spec.v2@v1.0+protobuf").Code, 200)
}

// One definition of a local CRD may have any size: KServe's has 45,000 objects,
// arrays, keys and scalars.
func TestV2WithALargeCRDIsEncoded(t *testing.T) {
	var properties []string
	for i := range 15_000 {
		properties = append(properties, fmt.Sprintf(`"p%d":{"type":"string"}`, i))
	}
	large := `{"type":"object","properties":{` + strings.Join(properties, ",") + `}}`
	f := newFixture(newLocal(map[string]string{"/openapi/v2": swagger("A", map[string]string{"A": large}, "/apis/serving.kserve.io/v1/inferenceservices")}))
	w := f.get("/openapi/v2", "Accept", v2Types.oldProtobuf)
	expect(t, "status", w.Code, http.StatusOK)
	var doc openapi_v2.Document
	if err := proto.Unmarshal(w.Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	schema := doc.Definitions.AdditionalProperties[0].Value
	expect(t, "properties", len(schema.Properties.AdditionalProperties), len(properties))
}
