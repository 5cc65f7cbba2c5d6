package widgets_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/annex-api/annex/examples/internal/standalone"
	"github.com/annex-api/annex/examples/widgets"
	v1 "github.com/annex-api/annex/examples/widgets/v1"
	"github.com/annex-api/annex/extension"
	"github.com/annex-api/annex/extension/storage/drivers"
)

// The command runs as its documentation says: its controller brings a widget to Ready, and the
// action restarts it.
func TestItRunsAsItsDocumentationSays(t *testing.T) {
	config := standalone.Example{
		Document: "server/main.go", Name: "widgets", Resource: v1.GroupVersion.WithResource("widgets"),
		Parts: []extension.Part{widgets.Widgets, widgets.Controller, extension.Drivers(drivers.All()...)},
	}.Start(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	client := c.Resource(v1.GroupVersion.WithResource("widgets")).Namespace("default")
	made, err := client.Create(ctx, &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": v1.GroupVersion.String(), "kind": "Widget",
		"metadata": map[string]any{"name": "one"}, "spec": map[string]any{"replicas": int64(2)},
	}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	events, err := client.Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=one", ResourceVersion: made.GetResourceVersion()})
	if err != nil {
		t.Fatal(err)
	}
	defer events.Stop()
	for w := (v1.Widget{}); w.Status.Phase != "Ready"; {
		event, ok := <-events.ResultChan()
		if !ok {
			t.Fatalf("the widget does not become Ready: %+v, %v", w, ctx.Err())
		}
		o, ok := event.Object.(*unstructured.Unstructured)
		if !ok {
			t.Fatalf("an event of %v", event.Object)
		}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &w); err != nil {
			t.Fatal(err)
		}
		if w.Status.Phase == "Ready" && (w.Status.Replicas != 2 || w.Status.Selector != "widget=one") {
			t.Errorf("its status is %+v", w.Status)
		}
	}
	restart(ctx, t, config)
}

// restart calls the action of the widget one.
func restart(ctx context.Context, t *testing.T, config *rest.Config) {
	t.Helper()
	h, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, config.Host+"/apis/widgets.example.com/v1/namespaces/default/widgets/one/restart", strings.NewReader(`{"reason":"it creaks"}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	response, err := h.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	var answer widgets.Restarted
	if err := json.Unmarshal(body, &answer); err != nil || response.StatusCode != http.StatusOK || answer.Message != "admin restarts one: it creaks" {
		t.Errorf("restart: %s %s, %v", response.Status, body, err)
	}
}
