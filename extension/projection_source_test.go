package extension_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/annex-api/annex/extension"
	"github.com/annex-api/annex/extension/extensiontest"
)

func TestProjectionOfTheWrongScopeIsNamed(t *testing.T) {
	host := extensiontest.Start(t, nil,
		extension.Resource[corev1.ConfigMap, corev1.ConfigMapList]{GroupVersion: sources.GroupVersion()},
		extension.Resource[corev1.Node, corev1.NodeList]{GroupVersion: sources.GroupVersion(), Scope: extension.Cluster},
	)
	for name, c := range map[string]struct {
		resource  string
		scope     extension.Scope
		namespace string
		want      string
	}{
		"with namespaces of what has none": {"nodes", extension.Namespaced, "", "kind Note of notes.example.com/v1: Scope: nodes.maps.example.com have no namespace"},
		"without, of all namespaces":       {"configmaps", extension.Cluster, "", "kind Note of notes.example.com/v1: Scope: configmaps.maps.example.com have namespaces"},
		"of a namespace that there is not": {"nodes", extension.Cluster, "default", "kind Note of notes.example.com/v1: Source.Namespace: nodes.maps.example.com have no namespace"},
		"without, of one namespace":        {"configmaps", extension.Cluster, "default", ""},
		"without, of what has none":        {"nodes", extension.Cluster, "", ""},
		"what is not there yet":            {"later", extension.Namespaced, "", ""},
	} {
		server, err := extension.New(t.Context(), extension.Config{Name: "test", Standalone: &extension.Standalone{}}, extension.Projection[Note, corev1.ConfigMap]{
			GroupVersion: notes.GroupVersion(), Scope: c.scope,
			Source: extension.Source{Resource: sources.GroupVersion().WithResource(c.resource), Namespace: c.namespace, Host: host.Config},
			To:     func(*corev1.ConfigMap, *Note) (bool, error) { return true, nil },
		})
		switch {
		case c.want == "" && err != nil, c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v", name, err)
		case err == nil:
			if err := server.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// Where no object of the source can be shown the answer is 503, and not an empty list.
func TestProjectionOfNothingThatCanBeShown(t *testing.T) {
	host := extensiontest.Start(t, nil, extension.Resource[corev1.ConfigMap, corev1.ConfigMapList]{GroupVersion: sources.GroupVersion()})
	p := &pair{t: t, sources: resourceClient(t, host.Config, sources)}
	if _, err := p.sources.Create(t.Context(), source("a", "broken"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	server, err := extension.New(t.Context(), extension.Config{Name: "test", Standalone: &extension.Standalone{}}, extension.Projection[Note, corev1.ConfigMap]{
		GroupVersion: notes.GroupVersion(),
		Source:       extension.Source{Resource: sources, Host: host.Config},
		To: func(from *corev1.ConfigMap, into *Note) (bool, error) {
			if into.Text = from.Data["text"]; into.Text == "broken" {
				return false, errors.New("it cannot be read")
			}
			return true, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	config, err := server.As(extension.Caller{Name: "test", Groups: []string{"system:masters"}})
	if err != nil {
		t.Fatal(err)
	}
	p.notes = resourceClient(t, config, notes)
	enough := time.Now().Add(patience)
	for {
		list, err := p.notes.List(t.Context(), metav1.ListOptions{})
		if err == nil {
			t.Fatalf("the list is %v", list.Items)
		}
		if apierrors.IsServiceUnavailable(err) && strings.Contains(err.Error(), "it cannot be read") {
			break
		}
		if time.Now().After(enough) {
			t.Fatalf("the list is answered %v", err)
		}
	}
	p.patchSource("a", `{"data":{"text":"whole"}}`)
	for {
		list, err := p.notes.List(t.Context(), metav1.ListOptions{})
		if err == nil && len(list.Items) == 1 {
			return
		}
		if err == nil || time.Now().After(enough) {
			t.Fatalf("after it can be read the list is %v, %v", list, err)
		}
	}
}

// withSubresources are an action and a stream of notes, and Allowed that lets nobody but administrators
// use them where the text does not say so.
func withSubresources() ([]extension.Subresource[Note], func(context.Context, string, *Note) bool) {
	sub := extension.Sub(
		extension.Action("restart", func(context.Context, *Note, *struct{}) (*struct{}, error) { return &struct{}{}, nil }),
		extension.Connect("console", func(context.Context, *Note) (http.Handler, error) {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }), nil
		}),
	)
	return sub, func(ctx context.Context, verb string, n *Note) bool {
		for _, group := range extension.CallerOf(ctx).Groups {
			if group == "system:masters" {
				return true
			}
		}
		switch n.Text {
		case secret:
			return false
		case "console only":
			return verb == "get" || verb == "console"
		}
		return verb == "get" || verb == "list" || verb == "watch"
	}
}

// TestAllowedHearsOfActionsAndStreams, of kinds that are projected and of those that are computed.
func TestAllowedHearsOfActionsAndStreams(t *testing.T) {
	texts := map[string]string{"hidden": secret, "shown": "open", "console": "console only"}
	sub, allowed := withSubresources()
	p := projected(t, func(_ *pair, n *extension.Projection[Note, corev1.ConfigMap]) { n.Sub, n.Allowed = sub, allowed })
	var made []Note
	for name, text := range texts {
		if _, err := p.notes.Create(t.Context(), note(name, text), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		made = append(made, Note{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace}, Text: text})
	}
	computed := extensiontest.Start(t, nil, extension.Computed[Note]{
		GroupVersion: notes.GroupVersion(), Sub: sub, Allowed: allowed,
		List: func(context.Context) ([]Note, error) { return made, nil },
	})
	for kind, running := range map[string]*extensiontest.Running{"projected": p.front, "computed": computed} {
		other, err := running.Server.As(extension.Caller{Name: "other", Groups: []string{"admin"}})
		if err != nil {
			t.Fatal(err)
		}
		for who, config := range map[string]*rest.Config{"admin": running.Config, "other": other} {
			for path, want := range map[string]int{
				"hidden/restart": http.StatusNotFound, "hidden/console": http.StatusNotFound,
				"shown/restart": http.StatusForbidden, "shown/console": http.StatusForbidden,
				"console/restart": http.StatusForbidden, "console/console": http.StatusOK,
			} {
				if who == "admin" {
					want = http.StatusOK
				}
				if got := post(t, config, path); got != want {
					t.Errorf("%s: POST %s by %s is answered %d, want %d", kind, path, who, got, want)
				}
			}
		}
	}
}

func post(t *testing.T, config *rest.Config, path string) int {
	t.Helper()
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	defer client.CloseIdleConnections()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, config.Host+"/apis/"+notes.GroupVersion().String()+"/namespaces/"+namespace+"/notes/"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	return response.StatusCode
}

func TestSettingsOfKindsThatAreNotStoredAreNamed(t *testing.T) {
	sub := extension.Sub(extension.Action("watch", func(context.Context, *Note, *struct{}) (*struct{}, error) { return nil, nil }))
	allowed := func(context.Context, string, *Note) bool { return true }
	config := extension.Config{Name: "test", Standalone: &extension.Standalone{}}
	for name, part := range map[string]extension.Part{
		"projection": extension.Projection[Note, corev1.ConfigMap]{GroupVersion: notes.GroupVersion(), Sub: sub, Allowed: allowed, History: extension.History{Bytes: -1}},
		"computed":   extension.Computed[Note]{GroupVersion: notes.GroupVersion(), Sub: sub, Allowed: allowed, History: extension.History{Age: -1}},
	} {
		_, err := extension.New(t.Context(), config, part)
		for _, want := range []string{": History: it is negative", ": Sub watch: Allowed is asked"} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: the error does not name %q: %v", name, want, err)
			}
		}
	}
}
