package bulletin

import (
	"context"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

// withCodec makes config fit for a bare REST client.
func withCodec(config *rest.Config) *rest.Config {
	c := rest.CopyConfig(config)
	c.NegotiatedSerializer = serializer.NewCodecFactory(runtime.NewScheme()).WithoutConversion()
	return c
}

// recorder notes the requests that a client makes.
type recorder struct {
	next http.RoundTripper
	mu   sync.Mutex
	urls []string
}

func (r *recorder) RoundTrip(request *http.Request) (*http.Response, error) {
	r.mu.Lock()
	r.urls = append(r.urls, request.URL.String())
	r.mu.Unlock()
	return r.next.RoundTrip(request)
}

func TestInformerUsesWatchList(t *testing.T) {
	server := start(t, open)
	mustCreate(t, board(t, server.config), notice("before", map[string]any{"message": "m"}))

	seen := &recorder{}
	config := rest.CopyConfig(server.config)
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { seen.next = next; return seen })
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	factory := dynamicinformer.NewDynamicSharedInformerFactory(client, 0)
	informer := factory.ForResource(resource).Informer()
	ctx, cancel := context.WithCancel(t.Context())
	factory.Start(ctx.Done())
	defer factory.Shutdown()
	defer cancel()
	wait, stop := context.WithTimeout(ctx, patience)
	defer stop()
	if !cache.WaitForCacheSync(wait.Done(), informer.HasSynced) {
		t.Fatal("the informer did not sync")
	}
	if _, there, _ := informer.GetStore().GetByKey("default/before"); !there {
		t.Error("the initial events lack the notice made before")
	}
	mustCreate(t, board(t, server.config), notice("after", map[string]any{"message": "m"}))
	eventually(t, "the event of a notice made after", func() bool {
		_, there, _ := informer.GetStore().GetByKey("default/after")
		return there
	})
	seen.mu.Lock()
	defer seen.mu.Unlock()
	if len(seen.urls) != 1 || !strings.Contains(seen.urls[0], "sendInitialEvents=true") || !strings.Contains(seen.urls[0], "allowWatchBookmarks=true") {
		t.Errorf("the informer asked %q, want one watch with sendInitialEvents", seen.urls)
	}
}

func TestStopEndsWatches(t *testing.T) {
	server := start(t, open)
	watch, err := board(t, server.config).Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Stop()
	begin := time.Now()
	if err := server.stop(); err != nil {
		t.Errorf("Run gave %v after its context ended, want nil", err)
	}
	if took := time.Since(begin); took > 2*watchDrain {
		t.Errorf("the stop took %s under an open watch", took)
	}
	select {
	case _, more := <-watch.ResultChan():
		if more {
			t.Error("an event came after the stop, want the end of the watch")
		}
	case <-time.After(patience):
		t.Error("the watch outlived the server")
	}
}

func TestDocumentsNameOnlyTheOwnGroup(t *testing.T) {
	server := start(t, open)
	var groups struct {
		Paths map[string]any `json:"paths"`
	}
	getJSON(t, server.config, "/openapi/v3", "application/json", &groups)
	if _, there := groups.Paths["apis/demo.annex.dev/v1"]; !there {
		t.Errorf("OpenAPI v3 lacks the group: %v", groups.Paths)
	}
	for path := range groups.Paths {
		if path != "apis" && path != "version" && !strings.HasPrefix(path, "apis/demo.annex.dev") {
			t.Errorf("OpenAPI v3 has %q, which is not ours", path)
		}
	}
	var document struct {
		Components struct {
			Schemas map[string]struct {
				Kinds []metav1.GroupVersionKind `json:"x-kubernetes-group-version-kind"`
			} `json:"schemas"`
		} `json:"components"`
	}
	getJSON(t, server.config, "/openapi/v3/apis/demo.annex.dev/v1", "application/json", &document)
	kinds := document.Components.Schemas["dev.annex.demo.v1.Notice"].Kinds
	if len(kinds) != 1 || kinds[0] != (metav1.GroupVersionKind{Group: "demo.annex.dev", Version: "v1", Kind: "Notice"}) {
		t.Errorf("the schema of Notice is of %v, want demo.annex.dev/v1 Notice alone", kinds)
	}
	var resources metav1.APIResourceList
	getJSON(t, server.config, "/apis/demo.annex.dev/v1", "application/json", &resources)
	if len(resources.APIResources) != 2 || resources.APIResources[0].ShortNames[0] != "nt" || resources.APIResources[1].Name != "notices/status" {
		t.Errorf("resources: %+v", resources.APIResources)
	}
}

func TestTakenPort(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	err = Run(t.Context(), Options{
		EtcdEndpoints: []string{"http://127.0.0.1:1"},
		Port:          taken.Addr().(*net.TCPAddr).Port,
	})
	if err == nil || !strings.Contains(err.Error(), taken.Addr().String()) || !strings.Contains(err.Error(), "in use") {
		t.Errorf("Run on a taken port gave %v", err)
	}
}

func TestOptionsValidate(t *testing.T) {
	good := Options{EtcdEndpoints: []string{"unix:///run/etcd.sock"}}
	if err := good.Validate(); err != nil {
		t.Errorf("the smallest options are refused: %v", err)
	}
	for want, spoil := range map[string]func(*Options){
		"at least one URL":        func(o *Options) { o.EtcdEndpoints = nil },
		"must begin with http://": func(o *Options) { o.EtcdEndpoints = []string{"ftp://etcd"} },
		"names no address":        func(o *Options) { o.EtcdEndpoints = []string{"unix://"} },
		"same scheme":             func(o *Options) { o.EtcdEndpoints = []string{"http://a", "unix:///b"} },
		"--etcd-cafile":           func(o *Options) { o.EtcdEndpoints = []string{"https://etcd:2379"} },
		"--etcd-keyfile":          func(o *Options) { o.EtcdCertFile = "cert" },
		"--etcd-prefix":           func(o *Options) { o.EtcdPrefix = "registry" },
		"--bind-address":          func(o *Options) { o.BindAddress = "localhost" },
		"--secure-port":           func(o *Options) { o.Port = 65536 },
		"--tls-private-key-file":  func(o *Options) { o.CertFile = "cert" },
	} {
		o := good
		spoil(&o)
		if err := o.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Validate gave %v, want %q", err, want)
		}
	}
}
