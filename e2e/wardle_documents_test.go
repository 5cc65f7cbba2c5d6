package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/features"
	featuretesting "k8s.io/client-go/features/testing"
	"k8s.io/client-go/rest"
)

func dynamicFor(config *rest.Config) (dynamic.Interface, error) { return dynamic.NewForConfig(config) }

const aggregatedV2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"

// TestDocuments reads discovery and OpenAPI in every form.
func TestDocuments(t *testing.T) {
	t.Parallel()
	e := shared(t)
	for path, wants := range map[string][]string{
		"/apis":                             {`"name":"wardle.example.com"`, `"groupVersion":"wardle.example.com/v1alpha1"`, `"groupVersion":"wardle.example.com/v1beta1"`},
		"/apis/wardle.example.com":          {`"kind":"APIGroup"`, `"preferredVersion":{"groupVersion":"wardle.example.com/v1beta1"`},
		"/apis/wardle.example.com/v1alpha1": {`"kind":"APIResourceList"`, `"name":"flunders"`, `"name":"fischers"`},
		"/openapi/v2":                       {"/apis/wardle.example.com/v1alpha1/namespaces/{namespace}/flunders/{name}", "v1alpha1.Flunder", "v1beta1.Flunder", "io.k8s.api.core.v1.ConfigMap"},
		"/openapi/v3":                       {`"apis/wardle.example.com/v1alpha1":{"serverRelativeURL":"/openapi/v3/apis/wardle.example.com/v1alpha1?hash=`, `"api/v1":`},
		"/openapi/v3/apis/wardle.example.com/v1alpha1": {"/apis/wardle.example.com/v1alpha1/namespaces/{namespace}/flunders/{name}", "v1alpha1.Flunder"},
	} {
		t.Run(strings.ReplaceAll(strings.Trim(path, "/"), "/", "_"), func(t *testing.T) {
			eventually(t, path, func(context.Context) error {
				a := get(t, e.admin, path, "Accept", "application/json")
				if a.code != http.StatusOK {
					return fmt.Errorf("%d %s", a.code, tail(a.body))
				}
				compact := strings.Join(strings.Fields(a.body), "")
				for _, want := range wants {
					if !strings.Contains(compact, want) {
						return fmt.Errorf("no %s in %d bytes", want, len(a.body))
					}
				}
				return nil
			})
		})
	}
	t.Run("aggregated", func(t *testing.T) {
		eventually(t, "aggregated discovery", func(context.Context) error {
			a := get(t, e.admin, "/apis", "Accept", aggregatedV2)
			if !strings.Contains(a.header.Get("Content-Type"), "as=APIGroupDiscoveryList") || a.header.Get("ETag") == "" {
				return fmt.Errorf("content type %s, ETag %s", a.header.Get("Content-Type"), a.header.Get("ETag"))
			}
			var list struct {
				Items []struct {
					Metadata struct{ Name string }
					Versions []struct {
						Version, Freshness string
						Resources          []struct{ Resource string }
					}
				}
			}
			if err := json.Unmarshal([]byte(a.body), &list); err != nil {
				return err
			}
			for _, group := range list.Items {
				if group.Metadata.Name != wardleGroup {
					continue
				}
				if n := len(group.Versions); n != 2 {
					return fmt.Errorf("%d versions, want 2", n)
				}
				for _, v := range group.Versions {
					if v.Freshness != "Current" || len(v.Resources) == 0 {
						return fmt.Errorf("%s is %s with %d resources", v.Version, v.Freshness, len(v.Resources))
					}
				}
				if again := get(t, e.admin, "/apis", "Accept", aggregatedV2, "If-None-Match", a.header.Get("ETag")); again.code != http.StatusNotModified {
					return fmt.Errorf("the same document again: %d, want 304", again.code)
				}
				return nil
			}
			return fmt.Errorf("no group %s", wardleGroup)
		})
	})
}

// TestProtobuf asks for protobuf where it is spoken and where it is not: sample-apiserver's own
// types have none.
func TestProtobuf(t *testing.T) {
	t.Parallel()
	e := shared(t)
	ns := e.namespace(t, "protobuf")
	if _, err := e.wardleClient(t).WardleV1alpha1().Flunders(ns).Create(t.Context(), newFlunder("one", "x"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	const protobuf = "application/vnd.kubernetes.protobuf"
	path := "/apis/wardle.example.com/v1alpha1/namespaces/" + ns + "/flunders"
	for accept, want := range map[string]struct {
		code  int
		mime  string
		magic bool
	}{
		protobuf:                                  {http.StatusNotAcceptable, protobuf, true},
		protobuf + ",application/json":            {http.StatusNotAcceptable, protobuf, true},
		"application/json," + protobuf:            {http.StatusOK, "application/json", false},
		"application/yaml":                        {http.StatusOK, "application/yaml", false},
		"text/csv":                                {http.StatusNotAcceptable, "application/json", false},
		protobuf + ";as=Table;g=meta.k8s.io;v=v1": {http.StatusNotAcceptable, "application/json", false},
		protobuf + ";as=PartialObjectMetadataList;g=meta.k8s.io;v=v1": {http.StatusOK, protobuf, true},
	} {
		a := get(t, e.admin, path, "Accept", accept)
		if a.code != want.code || !strings.HasPrefix(a.header.Get("Content-Type"), want.mime) || strings.HasPrefix(a.body, "k8s\x00") != want.magic {
			t.Errorf("Accept: %s was answered %d %s %.80q, want %d %s", accept, a.code, a.header.Get("Content-Type"), a.body, want.code, want.mime)
		}
	}
	if a := get(t, e.admin, "/api/v1/namespaces/"+ns, "Accept", protobuf); a.code != http.StatusOK || !strings.HasPrefix(a.body, "k8s\x00") {
		t.Errorf("a namespace as protobuf: %d %.80q", a.code, a.body)
	}
}

// TestCBOR is not parallel: client-go's gates belong to the process.
func TestCBOR(t *testing.T) {
	e := shared(t)
	featuretesting.SetFeatureDuringTest(t, features.ClientsAllowCBOR, true)
	featuretesting.SetFeatureDuringTest(t, features.ClientsPreferCBOR, true)
	ctx := t.Context()
	ns := e.namespace(t, "cbor")
	var seen recorder
	client, err := dynamicFor(seen.wrap(e.admin))
	if err != nil {
		t.Fatal(err)
	}
	object := func(gvk schema.GroupVersionKind, name string, content map[string]any) *unstructured.Unstructured {
		u := &unstructured.Unstructured{Object: map[string]any{}}
		for field, value := range content {
			u.Object[field] = value
		}
		u.SetGroupVersionKind(gvk)
		u.SetName(name)
		return u
	}

	t.Run("a server that speaks it", func(t *testing.T) {
		kind := flunders.GroupVersion().WithKind("Flunder")
		things := client.Resource(flunders).Namespace(ns)
		events, err := things.Watch(ctx, metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer events.Stop()
		if _, err := things.Create(ctx, object(kind, "one", map[string]any{"spec": map[string]any{"reference": "x"}}), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		if got := (<-events.ResultChan()).Object.(*unstructured.Unstructured); got.GetName() != "one" {
			t.Errorf("event of %s, want one", got.GetName())
		}
		if _, err := things.Apply(ctx, "two", object(kind, "two", map[string]any{"spec": map[string]any{"reference": "y"}}), metav1.ApplyOptions{FieldManager: "cbor"}); err != nil {
			t.Error(err)
		}
		list, err := things.List(ctx, metav1.ListOptions{})
		if err != nil || len(list.Items) != 2 {
			t.Errorf("list: %v, %v; want two", list, err)
		}
		for _, x := range seen.below("flunders") {
			want := "application/cbor"
			if strings.Contains(x.query, "watch=true") {
				want = "application/cbor-seq"
			}
			if x.answerType != want {
				t.Errorf("%s %s?%s was answered as %q, want %s", x.method, x.path, x.query, x.answerType, want)
			}
			if x.method == http.MethodPost && x.contentType != "application/cbor" || x.method == http.MethodPatch && x.contentType != "application/apply-patch+cbor" {
				t.Errorf("%s was sent as %q, want CBOR", x.method, x.contentType)
			}
		}
	})

	t.Run("a server that does not", func(t *testing.T) {
		configMaps := schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
		maps := client.Resource(configMaps).Namespace(ns)
		kind := configMaps.GroupVersion().WithKind("ConfigMap")
		// The first write is refused, and the client goes on with JSON, as with any server of this version.
		if _, err := maps.Create(ctx, object(kind, "one", nil), metav1.CreateOptions{}); !apierrors.IsUnsupportedMediaType(err) {
			t.Errorf("the first write: %v, want it refused for its media type", err)
		}
		if _, err := maps.Create(ctx, object(kind, "one", nil), metav1.CreateOptions{}); err != nil {
			t.Errorf("the second write: %v", err)
		}
		if _, err := maps.Get(ctx, "one", metav1.GetOptions{}); err != nil {
			t.Error(err)
		}
		a := get(t, e.admin, "/api/v1/namespaces/"+ns+"/configmaps", "Accept", "application/cbor")
		if a.code != http.StatusNotAcceptable {
			t.Errorf("only CBOR accepted: %d, want 406", a.code)
		}
	})
}
