package extension_test

import (
	"bytes"
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"

	"github.com/annex-api/annex/extension"
	"github.com/annex-api/annex/extension/extensiontest"
	"github.com/annex-api/annex/extension/storage"
	"github.com/annex-api/annex/extension/storage/kine/memory"
)

// configMaps is a kind whose Go types have protobuf.
var configMaps = extension.Resource[corev1.ConfigMap, corev1.ConfigMapList]{GroupVersion: sources.GroupVersion()}

const configMapsPath = "/apis/maps.example.com/v1/namespaces/default/configmaps"

func configMapScheme() *runtime.Scheme {
	s := runtime.NewScheme()
	s.AddKnownTypes(sources.GroupVersion(), &corev1.ConfigMap{}, &corev1.ConfigMapList{})
	metav1.AddToGroupVersion(s, sources.GroupVersion())
	return s
}

func configMap(name, text string) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		TypeMeta:   metav1.TypeMeta{APIVersion: sources.GroupVersion().String(), Kind: "ConfigMap"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}, Data: map[string]string{"text": text},
	}
}

// A kind whose types have protobuf is read, written and watched in it, by who asks for
// nothing else.
func TestProtobufWhereTypesHaveIt(t *testing.T) {
	running := extensiontest.Start(t, nil, configMaps)
	config := rest.CopyConfig(running.Config)
	gv := sources.GroupVersion()
	config.APIPath, config.GroupVersion = "/apis", &gv
	config.ContentType, config.AcceptContentTypes = runtime.ContentTypeProtobuf, runtime.ContentTypeProtobuf
	config.NegotiatedSerializer = serializer.NewCodecFactory(configMapScheme()).WithoutConversion()
	client, err := rest.RESTClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	answered := func(what string, r *rest.Request, into runtime.Object) {
		t.Helper()
		contentType := ""
		if err := r.Do(t.Context()).ContentType(&contentType).Into(into); err != nil || contentType != runtime.ContentTypeProtobuf {
			t.Fatalf("%s: %v, in %q", what, err, contentType)
		}
	}
	var made, read, changed corev1.ConfigMap
	answered("create", client.Post().Namespace("default").Resource("configmaps").Body(configMap("one", "a")), &made)
	answered("get", client.Get().Namespace("default").Resource("configmaps").Name("one"), &read)
	if read.UID == "" || read.UID != made.UID || read.Data["text"] != "a" {
		t.Errorf("made %v, read %v", made, read)
	}
	read.Data["text"] = "b"
	answered("update", client.Put().Namespace("default").Resource("configmaps").Name("one").Body(&read), &changed)
	var list corev1.ConfigMapList
	answered("list", client.Get().Namespace("default").Resource("configmaps"), &list)
	if len(list.Items) != 1 || list.Items[0].Data["text"] != "b" || list.ResourceVersion == "" {
		t.Errorf("the list is %v", list)
	}

	for _, path := range []string{"/one", ""} {
		got := ask(t, running, http.MethodGet, configMapsPath+path, "", http.Header{"Accept": {runtime.ContentTypeProtobuf}})
		if got.code != http.StatusOK || !strings.HasPrefix(got.body, "k8s\x00") {
			t.Errorf("%s: %d %.40q", path, got.code, got.body)
		}
	}
	if got := ask(t, running, http.MethodGet, configMapsPath+"/one", "", http.Header{"Accept": {"application/json"}}); !strings.Contains(got.body, `"text":"b"`) {
		t.Errorf("in JSON: %d %s", got.code, got.body)
	}

	w, err := client.Get().Namespace("default").Resource("configmaps").
		Param("watch", "true").Param("resourceVersion", made.ResourceVersion).Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	event := <-w.ResultChan()
	if m, ok := event.Object.(*corev1.ConfigMap); !ok || event.Type != watch.Modified || m.Data["text"] != "b" {
		t.Errorf("the event is %v", event)
	}
	// The client would read JSON as well.
	if streamed := watchedAs(t, running, configMapsPath, runtime.ContentTypeProtobuf); !strings.HasPrefix(streamed, runtime.ContentTypeProtobuf) {
		t.Errorf("events come in %q", streamed)
	}
}

// watchedAs is the media type that a watch is answered in.
func watchedAs(t *testing.T, s *extensiontest.Running, path, accept string) string {
	t.Helper()
	h, err := rest.HTTPClientFor(s.Config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Config.Host+path+"?watch=true", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", accept)
	response, err := h.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	return response.Header.Get("Content-Type")
}

// What another server stored as protobuf is read, by kinds whose types have it.
func TestProtobufInStorageIsRead(t *testing.T) {
	var opened *storage.Endpoint
	spied := storage.Driver{Scheme: "spied", Example: "spied://", Open: func(ctx context.Context, _ *url.URL, log logr.Logger) (*storage.Endpoint, error) {
		var err error
		opened, err = memory.Driver().Open(ctx, &url.URL{Scheme: "memory"}, log)
		return opened, err
	}}
	running := extensiontest.Start(t, func(c *extension.Config) { c.Storage = "spied://" }, configMaps, extension.Drivers(spied))
	etcd, err := clientv3.New(clientv3.Config{Endpoints: opened.Targets, DialOptions: []grpc.DialOption{grpc.WithContextDialer(opened.Dial)}})
	if err != nil {
		t.Fatal(err)
	}
	defer etcd.Close()
	maps := resourceClient(t, running.Config, sources)
	if _, err := maps.List(t.Context(), metav1.ListOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := ask(t, running, http.MethodPost, configMapsPath, `{"apiVersion":"maps.example.com/v1","kind":"ConfigMap","metadata":{"name":"own"}}`, nil); got.code != http.StatusCreated {
		t.Fatalf("%d %s", got.code, got.body)
	}
	found, err := etcd.Get(t.Context(), "/registry/", clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	own := ""
	for _, kv := range found.Kvs {
		if strings.HasSuffix(string(kv.Key), "/default/own") {
			own = string(kv.Key)
		}
	}
	if own == "" {
		t.Fatalf("it is not stored: %v", found.Kvs)
	}
	s := configMapScheme()
	var data bytes.Buffer
	if err := protobuf.NewSerializer(s, s).Encode(configMap("foreign", "in protobuf"), &data); err != nil {
		t.Fatal(err)
	}
	key := strings.TrimSuffix(own, "own") + "foreign"
	if written, err := etcd.Txn(t.Context()).If(clientv3.Compare(clientv3.ModRevision(key), "=", 0)).Then(clientv3.OpPut(key, data.String())).Commit(); err != nil || !written.Succeeded {
		t.Fatal(written, err)
	}
	got := ask(t, running, http.MethodGet, configMapsPath+"/foreign", "", nil)
	if got.code != http.StatusOK || !strings.Contains(got.body, `"text":"in protobuf"`) {
		t.Errorf("%d %s", got.code, got.body)
	}
}
