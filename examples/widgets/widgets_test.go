package widgets_test

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"

	"github.com/annex-api/annex/examples/widgets"
	v1 "github.com/annex-api/annex/examples/widgets/v1"
	"github.com/annex-api/annex/extension/extensiontest"
)

func TestWidgets(t *testing.T) {
	running := extensiontest.Start(t, nil, widgets.Widgets)
	client := dynamic.NewForConfigOrDie(running.Config).Resource(v1.GroupVersion.WithResource("widgets")).Namespace("default")
	made, err := client.Create(t.Context(), &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "widgets.example.com/v1", "kind": "Widget",
		"metadata": map[string]any{"name": "one"},
		"spec":     map[string]any{"colour": "green"},
	}}, metav1.CreateOptions{FieldValidation: "Strict"})
	if err != nil {
		t.Fatal(err)
	}
	t.Log(made)
}
