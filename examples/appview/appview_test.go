package appview_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/annex-api/annex/examples/appview"
	v1 "github.com/annex-api/annex/examples/appview/v1"
	"github.com/annex-api/annex/extension"
	"github.com/annex-api/annex/extension/extensiontest"
	"github.com/annex-api/annex/extension/extensiontest/conformance"
)

// maps is a group with a stored kind that looks like ConfigMaps. Those of a real API server are in
// e2e.
var maps = schema.GroupVersion{Group: "maps.example.com", Version: "v1"}

// start serves Apps over the stored kind of another server in this process.
func start(t *testing.T) (host, apps *extensiontest.Running) {
	t.Helper()
	host = extensiontest.Start(t, nil, extension.Resource[corev1.ConfigMap, corev1.ConfigMapList]{GroupVersion: maps})
	source := appview.ConfigMaps
	source.Resource, source.Host = maps.WithResource("configmaps"), host.Config
	return host, extensiontest.Start(t, nil, appview.Apps(source))
}

func as(t *testing.T, r *extensiontest.Running, who extension.Caller) *rest.Config {
	t.Helper()
	config, err := r.Server.As(who)
	if err != nil {
		t.Fatal(err)
	}
	return config
}

func TestConformance(t *testing.T) {
	_, apps := start(t)
	extensiontest.Conform(t, apps, conformance.Target{
		Resource: v1.GroupVersion.WithResource("apps"),
		// Nothing that the kit makes belongs to this team.
		Second: as(t, apps, extension.Caller{Name: "ruby", Groups: []string{"view", "team:red"}}),
	}, "generation/*", "status/*", "scale/*", "versions/*", "apply/other-version")
}

func TestATeamWritesItsOwnApps(t *testing.T) {
	host, apps := start(t)
	// The group admin may do everything as far as the server is concerned; Allowed is stricter.
	config := as(t, apps, extension.Caller{Name: "ruby", Groups: []string{"admin", "team:red"}})
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	red := client.Resource(v1.GroupVersion.WithResource("apps")).Namespace("default")
	app := func(name, team string) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": v1.GroupVersion.String(), "kind": "App",
			"metadata": map[string]any{"name": name, "labels": map[string]any{v1.TeamLabel: team}},
			"spec":     map[string]any{"image": "shop:1"},
		}}
	}
	if _, err := red.Create(t.Context(), app("shop", "blue"), metav1.CreateOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("the team red made an App of the team blue: %v", err)
	}
	mine, err := red.Create(t.Context(), app("shop", "red"), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	given := mine.DeepCopy()
	given.SetLabels(map[string]string{v1.TeamLabel: "blue"})
	if _, err := red.Update(t.Context(), given, metav1.UpdateOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("the team red gave its App to the team blue: %v", err)
	}

	maker, err := dynamic.NewForConfig(host.Config)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := maker.Resource(maps.WithResource("configmaps")).Namespace("default").Get(t.Context(), "shop", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	data, _, _ := unstructured.NestedStringMap(kept.Object, "data")
	if kept.GetLabels()["app"] != "true" || data["image"] != "shop:1" || data["replicas"] != "1" {
		t.Errorf("the ConfigMap has labels %v and data %v", kept.GetLabels(), data)
	}
	if _, shown := mine.GetLabels()["app"]; shown {
		t.Error("the label app of the ConfigMap is shown")
	}
}
