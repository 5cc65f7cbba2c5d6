package view

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emicklei/go-restful/v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/apis/example"
	exampleinstall "k8s.io/apiserver/pkg/apis/example/install"
	examplev1 "k8s.io/apiserver/pkg/apis/example/v1"
	"k8s.io/apiserver/pkg/endpoints"
	"k8s.io/apiserver/pkg/endpoints/filters"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"

	"github.com/annex-api/annex/extension/internal/ring"
)

// overHTTP serves a Resource as an API server does.
func overHTTP(t *testing.T, r *Resource) (url string) {
	t.Helper()
	scheme := runtime.NewScheme()
	exampleinstall.Install(scheme)
	scheme.AddKnownTypes(example.SchemeGroupVersion, &example.PodList{})
	scheme.AddKnownTypes(examplev1.SchemeGroupVersion, &examplev1.PodList{})
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	scheme.AddUnversionedTypes(schema.GroupVersion{Version: "v1"}, &metav1.Status{}, &metav1.APIVersions{}, &metav1.APIGroup{}, &metav1.APIResourceList{})
	if err := scheme.AddFieldLabelConversionFunc(examplev1.SchemeGroupVersion.WithKind("Pod"), func(label, value string) (string, string, error) {
		return label, value, nil
	}); err != nil {
		t.Fatal(err)
	}
	group := endpoints.APIGroupVersion{
		Storage:                    map[string]rest.Storage{"pods": r},
		Root:                       "/apis",
		GroupVersion:               examplev1.SchemeGroupVersion,
		OptionsExternalVersion:     &schema.GroupVersion{Version: "v1"},
		Serializer:                 serializer.NewCodecFactory(scheme),
		ParameterCodec:             runtime.NewParameterCodec(scheme),
		Typer:                      scheme,
		Creater:                    scheme,
		Convertor:                  scheme,
		ConvertabilityChecker:      scheme,
		Defaulter:                  scheme,
		UnsafeConvertor:            runtime.UnsafeObjectConvertor(scheme),
		Namer:                      runtime.Namer(metadataNamer{}),
		TypeConverter:              managedfields.NewDeducedTypeConverter(),
		EquivalentResourceRegistry: runtime.NewEquivalentResourceRegistry(),
		MinRequestTimeout:          time.Minute,
	}
	container := restful.NewContainer()
	if _, _, err := group.InstallREST(container); err != nil {
		t.Fatal(err)
	}
	info := &request.RequestInfoFactory{APIPrefixes: sets.NewString("apis")}
	server := httptest.NewServer(filters.WithRequestInfo(container, info))
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections)
	return server.URL + "/apis/" + examplev1.SchemeGroupVersion.String()
}

type metadataNamer struct{}

func (metadataNamer) Name(o runtime.Object) (string, error) { return metadata(o).GetName(), nil }

func (metadataNamer) Namespace(o runtime.Object) (string, error) {
	return metadata(o).GetNamespace(), nil
}

// seen is what a client sees of any object.
type seen struct {
	Kind     string `json:"kind"`
	Code     int    `json:"code"`
	Reason   string `json:"reason"`
	Message  string `json:"message"`
	Metadata struct {
		Name, ResourceVersion, Continue string
		Annotations                     map[string]string
	} `json:"metadata"`
	Items []struct {
		Metadata struct{ Name string } `json:"metadata"`
	} `json:"items"`
	Rows      []any `json:"rows"`
	Resources []struct {
		Name, SingularName, Kind string
		Namespaced               bool
		Verbs, ShortNames        []string
	} `json:"resources"`
}

func get(t *testing.T, url, accept string) (int, seen) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", accept)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var a seen
	if err := json.Unmarshal(body, &a); err != nil {
		t.Fatalf("%s: %v in %s", url, err, body)
	}
	return resp.StatusCode, a
}

// events reads so many of a watch, which answers with 200 in any case.
func events(t *testing.T, url string, count int) []string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: status %d", url, resp.StatusCode)
	}
	var got []string
	lines := bufio.NewScanner(resp.Body)
	for len(got) < count && lines.Scan() {
		var e struct {
			Type   string `json:"type"`
			Object seen   `json:"object"`
		}
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatalf("%v in %s", err, lines.Text())
		}
		o := e.Object
		switch {
		case o.Code != 0:
			got = append(got, fmt.Sprintf("%s %d %s", e.Type, o.Code, o.Reason))
		case e.Type == "BOOKMARK":
			got = append(got, "BOOKMARK "+o.Metadata.Annotations[metav1.InitialEventsAnnotationKey])
		default:
			got = append(got, e.Type+" "+o.Metadata.Name)
		}
	}
	return got
}

// TestOverHTTP: the handlers of k8s.io/apiserver take a Resource for what it is.
func TestOverHTTP(t *testing.T) {
	l := newLab(t, ring.Window{}, Config{Kind: "Pod", Singular: "pod", ShortNames: []string{"po"}, Allowed: unlessSecret})
	l.update("a/x n=1", "a/y secret=1", "b/z")
	url := overHTTP(t, l.Resource)
	version := l.last()

	_, discovery := get(t, url, "application/json")
	if len(discovery.Resources) != 1 {
		t.Fatalf("discovery has %d resources", len(discovery.Resources))
	}
	d := discovery.Resources[0]
	slices.Sort(d.Verbs)
	if got := fmt.Sprintln(d.Name, d.SingularName, d.Kind, d.Namespaced, d.Verbs, d.ShortNames); got != "pods pod Pod true [get list watch] [po]\n" {
		t.Errorf("discovery says %s", got)
	}

	for path, want := range map[string]string{
		"/pods":                                              "200 PodList x,z",
		"/pods?fieldSelector=metadata.name%3Dz":              "200 PodList z",
		"/pods?labelSelector=n%3D1":                          "200 PodList x",
		"/namespaces/a/pods":                                 "200 PodList x",
		"/namespaces/a/pods/x":                               "200 Pod x",
		"/namespaces/a/pods/y":                               "404 Status NotFound",
		"/pods?resourceVersion=1":                            "200 PodList x,z",
		"/pods?resourceVersion=1&resourceVersionMatch=Exact": "410 Status Expired",
		"/pods?resourceVersion=" + elsewhere(later(version, 3600_000_000)):           "504 Status Timeout",
		"/namespaces/a/pods/x?resourceVersion=" + elsewhere(later(version, 36e8)):    "504 Status Timeout",
		"/pods?resourceVersion=" + version + "&resourceVersionMatch=Exact&limit=500": "200 PodList x,z",
		"/pods?resourceVersion=nonsense":                                             "400 Status BadRequest",
		"/pods?continue=nonsense":                                                    "400 Status BadRequest",
		"/pods?resourceVersion=" + version + "&resourceVersionMatch=NotOlderThan":    "200 PodList x,z",
		"/pods?resourceVersionMatch=Exact":                                           "422 Status Invalid",
		"/pods?watch=true&sendInitialEvents=true&resourceVersionMatch=":              "422 Status Invalid",
	} {
		code, a := get(t, url+path, "application/json")
		var names []string
		for _, item := range a.Items {
			names = append(names, item.Metadata.Name)
		}
		got := strings.TrimSpace(fmt.Sprintf("%d %s %s%s%s", code, a.Kind, a.Reason, a.Metadata.Name, strings.Join(names, ",")))
		if got != want {
			t.Errorf("GET %s: %s, want %s; %s", path, got, want, a.Message)
		}
	}

	if _, a := get(t, url+"/pods", "application/json;as=Table;g=meta.k8s.io;v=v1"); a.Kind != "Table" || len(a.Rows) != 2 {
		t.Errorf("a %s of %d rows, want a Table of two", a.Kind, len(a.Rows))
	}
	if _, a := get(t, url+"/pods", "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"); a.Kind != "PartialObjectMetadataList" || len(a.Items) != 2 {
		t.Errorf("a %s of %d, want a PartialObjectMetadataList of two", a.Kind, len(a.Items))
	}

	for query, want := range map[string][]string{
		"resourceVersion=1": {"ERROR 410 Expired"},
		"resourceVersion=" + elsewhere(later(version, 3600_000_000)): {"ERROR 504 Timeout"},
		"":                                {"ADDED x", "ADDED z"},
		"fieldSelector=metadata.name%3Dz": {"ADDED z"},
		"sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true": {"ADDED x", "ADDED z", "BOOKMARK true"},
		"timeoutSeconds=1&resourceVersion=" + version:                                       nil,
	} {
		count := len(want)
		if count == 0 {
			count = 1 // and the watch ends without any
		}
		if got := events(t, url+"/pods?watch=true&"+query, count); !slices.Equal(got, want) {
			t.Errorf("watch %s: %q, want %q", query, got, want)
		}
	}
	for _, method := range []string{http.MethodPost, http.MethodDelete} {
		req, err := http.NewRequestWithContext(t.Context(), method, url+"/namespaces/a/pods", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close() // nothing is read
		if resp.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("%s: status %d", method, resp.StatusCode)
		}
	}
	if _, ok := l.New().(*example.Pod); !ok {
		t.Error("New makes something else")
	}
}
