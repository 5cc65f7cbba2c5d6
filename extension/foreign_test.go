package extension_test

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"

	"github.com/annex-api/annex/extension"
	"github.com/annex-api/annex/extension/extensiontest"
	"github.com/annex-api/annex/extension/extensiontest/conformance"
)

// The kit deletes no collection of a whole cluster that has objects of others.
func TestTheKitDeletesNoCollectionOfOthers(t *testing.T) {
	running := extensiontest.Start(t, nil, named(things{Scope: extension.Cluster}))
	client, err := dynamic.NewForConfig(running.Config)
	if err != nil {
		t.Fatal(err)
	}
	target := conformance.Target{Config: running.Config, Resource: thingsV1.WithResource("things"), Only: []string{"delete/collection"}}
	outcome := func() conformance.Outcome {
		t.Helper()
		s := conformance.Run(t.Context(), target, conformance.Table(t.Output()))
		if s.Err != nil || len(s.Results) != 1 {
			t.Fatal(s.Err, s.Results)
		}
		return s.Results[0].Outcome
	}
	if got := outcome(); got != conformance.Passed {
		t.Errorf("alone: %v", got)
	}
	mine := &unstructured.Unstructured{Object: map[string]any{"apiVersion": thingsV1.String(), "kind": "Thing", "metadata": map[string]any{"name": "mine"}}}
	if _, err := client.Resource(target.Resource).Create(t.Context(), mine, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := outcome(); got != conformance.NotApplicable {
		t.Errorf("beside somebody's object: %v", got)
	}
}
