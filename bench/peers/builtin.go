package main

import (
	"context"
	"fmt"
	"time"

	"github.com/annex-api/annex/extension/extensiontest/conformance"
)

// builtin has resources of the API server itself.
func builtin(context.Context, *stage) ([]conformance.Target, func() error, error) {
	configMaps := of("", "v1", "configmaps")
	leases := of("coordination.k8s.io", "v1", "leases")
	leases.Sample = sample(object{"spec": object{"holderIdentity": "one", "leaseDurationSeconds": int64(15)}})
	leases.Change = []string{"spec", "holderIdentity"}
	deployments := of("apps", "v1", "deployments")
	labels := object{"app": "sample"}
	deployments.Sample = sample(object{"spec": object{
		"replicas": int64(1), "selector": object{"matchLabels": labels},
		"template": object{
			"metadata": object{"labels": labels},
			"spec":     object{"containers": []any{object{"name": "main", "image": "example.com/none"}}},
		},
	}})
	deployments.Change = []string{"spec", "replicas"}
	roles := of("rbac.authorization.k8s.io", "v1", "clusterroles")
	roles.Sample = sample(object{"rules": []any{object{"apiGroups": []any{"example.com"}, "resources": []any{"samples"}, "verbs": []any{"get"}}}})
	return []conformance.Target{configMaps, leases, deployments, roles}, none, nil
}

const (
	customGroup    = "peers.example.com"
	customResource = "samples"
)

// custom makes a custom resource.
func custom(ctx context.Context, s *stage) (_ []conformance.Target, stop func() error, err error) {
	if err := s.Create(ctx, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition()); err != nil {
		return nil, none, fmt.Errorf("making a custom resource: %w", err)
	}
	for _, version := range []string{"v1", "v1beta1"} {
		err := s.Server.Until(ctx, "the custom resource to be served", readyLimit, 200*time.Millisecond, func(ctx context.Context) (bool, error) {
			_, err := s.Get(ctx, "/apis/"+customGroup+"/"+version+"/"+customResource, nil)
			if err != nil {
				return false, nil // It is not served yet.
			}
			_, err = s.Get(ctx, "/openapi/v3/apis/"+customGroup+"/"+version, nil)
			return err == nil, nil
		})
		if err != nil {
			return nil, none, err
		}
	}
	v1 := of(customGroup, "v1", customResource)
	return []conformance.Target{v1, of(customGroup, "v1beta1", customResource)}, none, nil
}

func definition() object {
	described := func(schema object, text string) object {
		schema["description"] = text
		return schema
	}
	text := func() object { return object{"type": "string"} }
	number := func() object { return object{"type": "integer", "format": "int32"} }
	schema := described(object{"type": "object", "properties": object{
		"spec": described(object{"type": "object", "properties": object{
			"colour":   described(text(), "The colour."),
			"replicas": described(number(), "How many are wanted."),
		}}, "What is wanted."),
		"status": described(object{"type": "object", "properties": object{
			"phase":    described(text(), "How far it is."),
			"replicas": described(number(), "How many there are."),
		}}, "What there is."),
	}}, "A sample.")
	var versions []object
	for i, name := range []string{"v1", "v1beta1"} {
		versions = append(versions, object{
			"name": name, "served": true, "storage": i == 0, "schema": object{"openAPIV3Schema": schema},
			"selectableFields": []object{{"jsonPath": ".spec.colour"}},
			"subresources": object{
				"status": object{},
				"scale":  object{"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"},
			},
		})
	}
	return object{
		"metadata": object{"name": customResource + "." + customGroup},
		"spec": object{
			"group": customGroup, "scope": "Namespaced", "versions": versions,
			"names": object{"plural": customResource, "singular": "sample", "kind": "Sample", "listKind": "SampleList"},
		},
	}
}
