package extension_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/annex-api/annex/extension"
	"github.com/annex-api/annex/extension/extensiontest"
)

// both are the versions that a feature is tried through: the hub, and one that says less.
var both = []string{"v1", "v1beta1"}

// through runs a test of a feature through each version, with things of its own.
func through(t *testing.T, s *extensiontest.Running, test func(t *testing.T, version string, c dynamic.ResourceInterface)) {
	t.Helper()
	for _, version := range both {
		t.Run(version, func(t *testing.T) { test(t, version, in(t, s.Server, version)) })
	}
}

// thingIn is a thing in a version.
func thingIn(version, name, text string) *unstructured.Unstructured {
	o := object(name, text)
	o.SetAPIVersion(thingsV1.Group + "/" + version)
	return o
}

func made(t *testing.T, c dynamic.ResourceInterface, o *unstructured.Unstructured) *unstructured.Unstructured {
	t.Helper()
	out, err := c.Create(t.Context(), o, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// pathOf is that of things in a version.
func pathOf(version string) string {
	return "/apis/" + thingsV1.Group + "/" + version + "/namespaces/default/things"
}

// answer is what a server says to a request.
type answer struct {
	code   int
	header http.Header
	body   string
}

// ask sends a request as it is.
func ask(t *testing.T, s *extensiontest.Running, method, path, body string, header http.Header) answer {
	t.Helper()
	h, err := rest.HTTPClientFor(s.Config)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), method, s.Config.Host+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	for name, values := range header {
		r.Header[name] = values
	}
	response, err := h.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{response.StatusCode, response.Header, string(data)}
}

// first is the first event of a watch as it is on the wire.
func first(t *testing.T, s *extensiontest.Running, path string, header http.Header) (http.Header, map[string]any) {
	t.Helper()
	h, err := rest.HTTPClientFor(s.Config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Config.Host+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.Header = header
	response, err := h.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var event map[string]any
	if err := json.NewDecoder(response.Body).Decode(&event); err != nil {
		t.Fatalf("%d: %v", response.StatusCode, err)
	}
	return response.Header, event
}

// onAPort runs a server that listens, and gives a configuration that reaches it from outside.
func onAPort(t *testing.T, parts ...extension.Part) (*extensiontest.Running, *rest.Config) {
	t.Helper()
	const token = "a-token-for-a-test"
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	running := extensiontest.Start(t, func(c *extension.Config) {
		c.Listener = listener
		c.Standalone.Tokens = map[string]extension.Caller{token: {Name: "a", Groups: []string{"admin"}}}
	}, parts...)
	return running, &rest.Config{
		Host: "https://" + listener.Addr().String(), BearerToken: token,
		TLSClientConfig: rest.TLSClientConfig{Insecure: true},
	}
}
