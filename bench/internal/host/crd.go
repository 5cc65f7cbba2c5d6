package host

import (
	"context"
	"fmt"
	"time"

	"github.com/annex-api/annex/bench/internal/fixture"
)

// RegisterCRDs makes count CustomResourceDefinitions, waits until all are in the
// discovery document, and returns how long that took.
func (h *Host) RegisterCRDs(ctx context.Context, count int) (time.Duration, error) {
	began := time.Now()
	for n := range count {
		if err := h.Create(ctx, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd(n)); err != nil {
			return 0, fmt.Errorf("making a CustomResourceDefinition: %w", err)
		}
	}
	err := h.DiscoveredCRDs(ctx, count)
	return time.Since(began), err
}

// DiscoveredCRDs waits until count CustomResourceDefinitions are in the discovery document.
func (h *Host) DiscoveredCRDs(ctx context.Context, count int) error {
	return h.Server.Until(ctx, fmt.Sprintf("%d CustomResourceDefinitions in discovery", count), registerLimit, interval(count), func(ctx context.Context) (bool, error) {
		found, err := h.discoveredCRDs(ctx)
		return found == count, err
	})
}

func crd(n int) object {
	c := fixture.CRDNames(n)
	text, number := object{"type": "string"}, object{"type": "integer", "format": "int32"}
	return object{
		"metadata": object{"name": c.Plural + "." + c.Group},
		"spec": object{
			"group": c.Group, "scope": "Namespaced",
			"names": object{"plural": c.Plural, "singular": c.Singular, "kind": c.Kind, "listKind": c.Kind + "List"},
			"versions": []object{{
				"name": fixture.Version, "served": true, "storage": true, "subresources": object{"status": object{}},
				"schema": object{"openAPIV3Schema": object{
					"type": "object",
					"properties": object{
						"spec": object{"type": "object", "properties": object{
							"replicas": number, "image": text, "arguments": object{"type": "array", "items": text},
						}},
						"status": object{"type": "object", "properties": object{"phase": text, "ready": number}},
					},
				}},
			}},
		},
	}
}

func (h *Host) discoveredCRDs(ctx context.Context) (int, error) {
	groups, err := h.groups(ctx)
	if err != nil {
		return 0, err
	}
	found := 0
	for _, g := range groups {
		if fixture.IsCRDGroup(g.Metadata.Name) && len(g.Versions) == 1 {
			found += len(g.Versions[0].Resources)
		}
	}
	return found, nil
}
