package conformance

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	openapiv2 "github.com/google/gnostic-models/openapiv2"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kube-openapi/pkg/util/proto"
)

func openAPIChecks() []Check {
	return []Check{
		{
			ID:      "openapi/v3",
			Promise: "OpenAPI v3 has a document of the group version: it parses, every reference leads somewhere, and one schema names the kind.",
			Source:  keps + "sig-api-machinery/2896-openapi-v3",
			Run:     checkOpenAPIV3,
		},
		{
			ID:      "openapi/v2",
			Promise: "OpenAPI v2 defines the kind, and the whole document can be read as kubectl reads it.",
			Source:  "https://kubernetes.io/docs/concepts/overview/kubernetes-api/#openapi-v2",
			Faults:  []int{11},
			Run:     checkOpenAPIV2,
		},
		{
			ID:      "openapi/comments",
			Promise: "The kind and its fields are described, so that kubectl explain can explain them.",
			Source:  conventions + "#types-kinds",
			Needs:   []Need{Schema},
			Run:     checkComments,
		},
	}
}

func checkOpenAPIV3(ctx context.Context, t *T) {
	s := t.subject
	a := t.want(t.do(ctx, request{method: http.MethodGet, path: "/openapi/v3"}), http.StatusOK)
	if s.document == nil {
		t.fatalf(a.Exchange, "there is no OpenAPI v3 document of %s: %s", s.GroupVersion(), s.schemaProblem)
	}
	t.want(t.do(ctx, request{method: http.MethodGet, path: s.document.path}), http.StatusOK)
	for _, ref := range s.document.dangling() {
		t.failf(nil, "%s: the reference %q leads nowhere", s.document.path, ref)
	}
	gvk := s.GroupVersion().WithKind(s.kind)
	var named []string
	for _, name := range slices.Sorted(maps.Keys(s.document.schemas)) {
		if strings.ContainsAny(name, "/~") {
			t.failf(nil, "%s: the schema %q has the path of a Go package for a name", s.document.path, name)
		}
		node, ok := s.document.schemas[name].(map[string]any)
		if !ok {
			t.failf(nil, "%s: the schema %q is no object", s.document.path, name)
			continue
		}
		t.countKind(node, name, gvk, &named)
	}
	switch len(named) {
	case 0:
		t.failf(nil, "%s: no schema has the extension x-kubernetes-group-version-kind with %s", s.document.path, gvk)
	case 1:
	default:
		t.failf(nil, "%s: more than one schema names %s: %s", s.document.path, gvk, strings.Join(named, ", "))
	}
}

func (t *T) countKind(node map[string]any, name string, gvk schema.GroupVersionKind, named *[]string) {
	for _, k := range kinds(node) {
		if k.Version == "__internal" {
			t.failf(nil, "%s: the schema %q names the internal version", t.subject.document.path, name)
		}
		if k == gvk {
			*named = append(*named, name)
		}
	}
}

func checkOpenAPIV2(ctx context.Context, t *T) {
	s := t.subject
	a := t.want(t.do(ctx, request{method: http.MethodGet, path: "/openapi/v2"}.with("Accept", "application/json")), http.StatusOK)
	document, err := openapiv2.ParseDocument(a.raw)
	if err != nil {
		t.fatalf(a.Exchange, "the document does not parse: %v", err)
	}
	models, err := proto.NewOpenAPIData(document)
	if err != nil {
		t.fatalf(a.Exchange, "the document cannot be read as models, which breaks kubectl for every kind: %v", err)
	}
	gvk := s.GroupVersion().WithKind(s.kind)
	for _, name := range models.ListModels() {
		list, _ := models.LookupModel(name).GetExtensions()["x-kubernetes-group-version-kind"].([]any)
		for _, item := range list {
			if fieldOf(item, "group") == gvk.Group && fieldOf(item, "version") == gvk.Version && fieldOf(item, "kind") == gvk.Kind {
				return
			}
		}
	}
	t.failf(a.Exchange, "no definition has the extension x-kubernetes-group-version-kind with %s", gvk)
}

// fieldOf reads an extension, whose maps have keys of either type.
func fieldOf(item any, key string) string {
	switch m := item.(type) {
	case map[string]any:
		return fmt.Sprint(m[key])
	case map[any]any:
		return fmt.Sprint(m[key])
	}
	return ""
}

func checkComments(ctx context.Context, t *T) {
	s := t.subject
	t.want(t.do(ctx, request{method: http.MethodGet, path: s.document.path}), http.StatusOK)
	if text, _ := s.schema["description"].(string); text == "" {
		t.failf(nil, "%s: the kind %s has no description", s.document.path, s.kind)
	}
	_, names := s.document.properties(s.schema)
	for _, name := range names {
		node := s.document.property(s.schema, name)
		if text, _ := node["description"].(string); text == "" {
			t.failf(nil, "%s: the field %s of %s has no description", s.document.path, name, s.kind)
		}
	}
}
