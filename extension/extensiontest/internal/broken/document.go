package broken

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// document answers what everybody may read: health, discovery and OpenAPI.
func (s *Server) document(w http.ResponseWriter, r *http.Request) bool {
	path := r.URL.Path
	var content any
	switch path {
	case "/readyz":
		if s.fault == NeverReady {
			http.Error(w, "informers have not synced", http.StatusInternalServerError)
			return true
		}
		_, _ = fmt.Fprint(w, "ok") // the client may have gone
		return true
	case "/api":
		content = metav1.APIVersions{TypeMeta: metav1.TypeMeta{Kind: "APIVersions"}, Versions: []string{"v1"}}
	case "/api/v1":
		content = metav1.APIResourceList{
			TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: "v1",
			APIResources: []metav1.APIResource{{Name: "namespaces", SingularName: "namespace", Kind: "Namespace", Verbs: []string{"create", "delete", "get", "list"}}},
		}
	case "/apis":
		if strings.Contains(r.Header.Get("Accept"), "as=APIGroupDiscoveryList") {
			s.tagged(w, r, "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList", aggregated())
			return true
		}
		content = metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}, Groups: []metav1.APIGroup{apiGroup()}}
	case "/apis/" + group:
		content = apiGroup()
	case "/apis/" + group + "/" + hub, "/apis/" + group + "/" + spoke:
		content = resources(path[len("/apis/"):])
	case "/openapi/v3":
		paths := map[string]any{}
		for _, version := range []string{hub, spoke} {
			key := "apis/" + group + "/" + version
			paths[key] = map[string]any{"serverRelativeURL": "/openapi/v3/" + key}
		}
		content = map[string]any{"paths": paths}
	case "/openapi/v3/apis/" + group + "/" + hub:
		content = map[string]any{"openapi": "3.0.0", "components": map[string]any{"schemas": schemas(hub, "#/components/schemas/")}}
	case "/openapi/v3/apis/" + group + "/" + spoke:
		content = map[string]any{"openapi": "3.0.0", "components": map[string]any{"schemas": schemas(spoke, "#/components/schemas/")}}
	case "/openapi/v2":
		if s.fault == NoOpenAPIV2 {
			http.NotFound(w, r)
			return true
		}
		definitions := schemas(hub, "#/definitions/")
		if s.fault == BadModel {
			definitions["bad"] = map[string]any{"type": "object", "properties": map[string]any{"other": map[string]any{"$ref": "#/definitions/missing"}}}
		}
		content = map[string]any{"swagger": "2.0", "info": map[string]any{"title": "broken", "version": "v1"}, "paths": map[string]any{}, "definitions": definitions}
	default:
		return false
	}
	s.tagged(w, r, "application/json", content)
	return true
}

// tagged answers a document with its ETag.
func (s *Server) tagged(w http.ResponseWriter, r *http.Request, media string, content any) {
	raw, err := json.Marshal(content)
	if err != nil {
		s.fail(w, err)
		return
	}
	tag := fmt.Sprintf("%q", fmt.Sprintf("%x", sha256.Sum256(raw)))
	w.Header().Set("ETag", tag)
	if r.Header.Get("If-None-Match") == tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.Header().Set("Content-Type", media)
	_, _ = bytes.NewReader(raw).WriteTo(w) // the client may have gone
}

func apiGroup() metav1.APIGroup {
	version := func(v string) metav1.GroupVersionForDiscovery {
		return metav1.GroupVersionForDiscovery{GroupVersion: group + "/" + v, Version: v}
	}
	return metav1.APIGroup{
		TypeMeta: metav1.TypeMeta{Kind: "APIGroup", APIVersion: "v1"}, Name: group,
		Versions: []metav1.GroupVersionForDiscovery{version(hub), version(spoke)}, PreferredVersion: version(hub),
	}
}

var verbs = []string{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}

func resources(groupVersion string) metav1.APIResourceList {
	return metav1.APIResourceList{
		TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: groupVersion,
		APIResources: []metav1.APIResource{
			{Name: resource, SingularName: "gizmo", Namespaced: true, Kind: kind, Verbs: verbs, ShortNames: []string{"gz"}},
			{Name: resource + "/log", Namespaced: true, Kind: kind, Verbs: []string{"get"}},
			{Name: resource + "/status", Namespaced: true, Kind: kind, Verbs: []string{"get", "patch", "update"}},
		},
	}
}

func aggregated() apidiscoveryv2.APIGroupDiscoveryList {
	item := apidiscoveryv2.APIGroupDiscovery{ObjectMeta: metav1.ObjectMeta{Name: group}}
	for _, v := range []string{hub, spoke} {
		responseKind := &metav1.GroupVersionKind{Group: group, Version: v, Kind: kind}
		item.Versions = append(item.Versions, apidiscoveryv2.APIVersionDiscovery{
			Version: v, Freshness: apidiscoveryv2.DiscoveryFreshnessCurrent,
			Resources: []apidiscoveryv2.APIResourceDiscovery{{
				Resource: resource, ResponseKind: responseKind, Scope: apidiscoveryv2.ScopeNamespace, SingularResource: "gizmo",
				Verbs: verbs, ShortNames: []string{"gz"},
				Subresources: []apidiscoveryv2.APISubresourceDiscovery{
					{Subresource: "log", ResponseKind: responseKind, Verbs: []string{"get"}},
					{Subresource: "status", ResponseKind: responseKind, Verbs: []string{"get", "patch", "update"}},
				},
			}},
		})
	}
	return apidiscoveryv2.APIGroupDiscoveryList{
		TypeMeta: metav1.TypeMeta{Kind: "APIGroupDiscoveryList", APIVersion: "apidiscovery.k8s.io/v2"},
		Items:    []apidiscoveryv2.APIGroupDiscovery{item},
	}
}

// schemas describes the kind in a version.
func schemas(version, refs string) map[string]any {
	text := func(description string) map[string]any {
		return map[string]any{"type": "string", "description": description}
	}
	spec := map[string]any{"color": text("Color of it."), "size": map[string]any{"type": "integer", "description": "Size of it.", "minimum": 1, "maximum": 100}}
	if version == hub {
		spec["note"] = text("Note is what the other version has not.")
	}
	return map[string]any{
		"com.example.broken." + version + ".Gizmo": map[string]any{
			"type": "object", "description": "Gizmo is what is served.",
			"properties": map[string]any{
				"apiVersion": text("APIVersion of the object."), "kind": text("Kind of the object."),
				"metadata": map[string]any{"type": "object", "description": "Metadata of the object."},
				"spec":     map[string]any{"description": "Spec is what is wanted.", "allOf": []any{map[string]any{"$ref": refs + "com.example.broken." + version + ".Spec"}}},
				"status":   map[string]any{"type": "object", "description": "Status is what is.", "properties": map[string]any{"phase": text("Phase it is in.")}},
			},
			"x-kubernetes-group-version-kind": []any{map[string]any{"group": group, "version": version, "kind": kind}},
			"x-kubernetes-selectable-fields":  []any{map[string]any{"fieldPath": selectable}},
		},
		"com.example.broken." + version + ".Spec": map[string]any{
			"type": "object", "description": "Spec of a Gizmo.", "required": []any{"color"}, "properties": spec,
		},
	}
}
