package openapidocs

import (
	"strings"

	"k8s.io/kube-openapi/pkg/spec3"
)

// kindsKey is the extension of a schema that lists the kinds it is the schema of.
const kindsKey = "x-kubernetes-group-version-kind"

// kindsOfEveryGroup are kinds that each group has as its own
// (k8s.io/apimachinery/pkg/apis/meta/v1, AddToGroupVersion).
var kindsOfEveryGroup = map[string]bool{"WatchEvent": true, "DeleteOptions": true}

// confineKinds keeps, of the kinds that each group has, those of v1 and of the
// document's own path, as k8s.io/apiserver does (pkg/server/routes).
func confineKinds(document *spec3.OpenAPI, path string) {
	group, version, ok := groupVersion(path)
	if !ok || document.Components == nil {
		return
	}
	for _, schema := range document.Components.Schemas {
		if schema == nil {
			continue
		}
		kinds, ok := schema.Extensions[kindsKey].([]any)
		if !ok || len(kinds) < 2 {
			continue
		}
		if first, ok := kinds[0].(map[string]any); !ok || !isKindOfEveryGroup(first) {
			continue
		}
		var kept []any
		for _, kind := range kinds {
			k, ok := kind.(map[string]any)
			if ok && (k["group"] == group && k["version"] == version || k["group"] == "" && k["version"] == "v1") {
				kept = append(kept, kind)
			}
		}
		if len(kept) == 0 {
			delete(schema.Extensions, kindsKey)
			continue
		}
		schema.Extensions[kindsKey] = kept
	}
}

func isKindOfEveryGroup(k map[string]any) bool {
	name, _ := k["kind"].(string)
	return kindsOfEveryGroup[name]
}

// groupVersion is that of the path "api/v1" or "apis/<group>/<version>".
func groupVersion(path string) (group, version string, ok bool) {
	switch parts := strings.Split(path, "/"); {
	case len(parts) == 2 && parts[0] == "api":
		return "", parts[1], true
	case len(parts) == 3 && parts[0] == "apis":
		return parts[1], parts[2], true
	}
	return "", "", false
}
