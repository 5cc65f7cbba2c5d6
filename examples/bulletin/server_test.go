package bulletin

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	genericserver "k8s.io/apiserver/pkg/server"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"go.etcd.io/etcd/server/v3/embed"

	demov1 "github.com/annex-api/annex/examples/bulletin/v1"
)

// patience bounds every wait of these tests.
const patience = 20 * time.Second

var resource = demov1.SchemeGroupVersion.WithResource(demov1.Resource)

// startEtcd runs etcd on Unix sockets in a folder of its own and gives its URL.
func startEtcd(t *testing.T) string {
	t.Helper()
	// Not t.TempDir: a socket's path may have about 100 bytes.
	dir, err := os.MkdirTemp("", "bulletin-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	client := url.URL{Scheme: "unix", Path: filepath.Join(dir, "client")}
	peer := url.URL{Scheme: "unix", Path: filepath.Join(dir, "peer")}
	config := embed.NewConfig()
	config.Dir = filepath.Join(dir, "data")
	config.LogLevel = "fatal"
	// A single member waits for nobody before it leads.
	config.TickMs, config.ElectionMs = 10, 100
	// The advertised URLs stay the defaults: nobody calls a single member by them.
	config.ListenClientUrls, config.ListenPeerUrls = []url.URL{client}, []url.URL{peer}
	etcd, err := embed.StartEtcd(config)
	if err != nil {
		t.Fatalf("start etcd: %v", err)
	}
	t.Cleanup(etcd.Close)
	select {
	case <-etcd.Server.ReadyNotify():
	case <-time.After(patience):
		t.Fatal("etcd is not ready")
	}
	return client.String()
}

// running is a server under test.
type running struct {
	config *rest.Config // leads to it, TLS verified
	stop   func() error // ends it and gives what Run returned
}

// start runs the server over TLS on a free port until the test ends.
func start(t *testing.T, allow access) running {
	t.Helper()
	dir := t.TempDir()
	cert, key, err := selfSigned([]string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	o := Options{
		EtcdEndpoints: []string{startEtcd(t)},
		CertFile:      filepath.Join(dir, "tls.crt"),
		KeyFile:       filepath.Join(dir, "tls.key"),
	}
	for file, data := range map[string][]byte{o.CertFile: cert, o.KeyFile: key} {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ready := make(chan net.Addr, 1)
	o.Ready = func(address net.Addr) { ready <- address }

	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	begin := time.Now()
	go func() { ended <- run(ctx, o, allow) }()
	var result error
	var address net.Addr
	stopped := false
	stop := func() error {
		if !stopped {
			stopped = true
			cancel()
			result = <-ended
		}
		return result
	}
	t.Cleanup(func() { _ = stop() })
	select {
	case address = <-ready:
	case result = <-ended:
		stopped = true
		t.Fatalf("the server ended before it was ready: %v", result)
	case <-time.After(patience):
		t.Fatal("the server is not ready")
	}
	t.Logf("ready after %s", time.Since(begin).Round(time.Millisecond))
	return running{
		config: &rest.Config{
			Host: "https://" + address.String(), QPS: -1,
			TLSClientConfig: rest.TLSClientConfig{CAData: cert},
		},
		stop: stop,
	}
}

// open lets everybody in, as the user "tester", and allows everything.
func open(_ context.Context, config *genericserver.Config) error {
	config.Authentication.Authenticator = authenticator.RequestFunc(func(*http.Request) (*authenticator.Response, bool, error) {
		return &authenticator.Response{User: &user.DefaultInfo{Name: "tester"}}, true, nil
	})
	config.Authorization.Authorizer = authorizerfactory.NewAlwaysAllowAuthorizer()
	return nil
}

// board is the client of the notices in the namespace "default".
func board(t *testing.T, config *rest.Config) dynamic.ResourceInterface {
	t.Helper()
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client.Resource(resource).Namespace("default")
}

// notice makes a notice with the pairs of spec fields and values.
func notice(name string, spec map[string]any) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": demov1.SchemeGroupVersion.String(),
		"kind":       demov1.Kind,
		"metadata":   map[string]any{"name": name},
		"spec":       spec,
	}}
}

func mustCreate(t *testing.T, client dynamic.ResourceInterface, n *unstructured.Unstructured) *unstructured.Unstructured {
	t.Helper()
	made, err := client.Create(t.Context(), n, metav1.CreateOptions{})
	if err != nil {
		t.Fatalf("create %s: %v", n.GetName(), err)
	}
	return made
}

func valueOf(t *testing.T, n *unstructured.Unstructured, path ...string) string {
	t.Helper()
	value, _, err := unstructured.NestedString(n.Object, path...)
	if err != nil {
		t.Fatal(err)
	}
	return value
}
