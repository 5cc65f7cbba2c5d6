package bulletin

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/annex-api/annex/internal/testcerts"
)

// host is what an extension server needs of its API server: the published
// front-proxy CA, reviews of tokens, and reviews of rights. Only alice may do
// anything; her token is "alice-token".
type host struct {
	settings *corev1.ConfigMap
	refusals int // requests answered 503 before the first good answer

	mu      sync.Mutex
	reviews []authorizationv1.SubjectAccessReviewSpec
}

func (h *host) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.refusals > 0 {
		h.refusals--
		http.Error(w, "not yet", http.StatusServiceUnavailable)
		return
	}
	answer := func(v any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v)
	}
	switch path := r.URL.Path; {
	case path == "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication":
		answer(h.settings)
	case path == "/api/v1/namespaces/kube-system/configmaps" && r.URL.Query().Get("watch") != "":
		// This host does not watch: the client lists again.
		http.Error(w, "no watches", http.StatusMethodNotAllowed)
	case path == "/api/v1/namespaces/kube-system/configmaps":
		answer(corev1.ConfigMapList{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMapList"},
			ListMeta: metav1.ListMeta{ResourceVersion: "1"},
			Items:    []corev1.ConfigMap{*h.settings},
		})
	case strings.HasSuffix(path, "/tokenreviews"):
		var review authenticationv1.TokenReview
		_ = json.NewDecoder(r.Body).Decode(&review)
		if review.Spec.Token == "alice-token" {
			review.Status = authenticationv1.TokenReviewStatus{Authenticated: true, User: authenticationv1.UserInfo{Username: "alice"}}
		}
		answer(review)
	case strings.HasSuffix(path, "/subjectaccessreviews"):
		var review authorizationv1.SubjectAccessReview
		_ = json.NewDecoder(r.Body).Decode(&review)
		h.reviews = append(h.reviews, review.Spec)
		review.Status.Allowed = review.Spec.User == "alice"
		answer(review)
	default:
		http.NotFound(w, r)
	}
}

// startHost runs h over TLS and gives the path of a kubeconfig that leads to it.
func startHost(t *testing.T, h *host) string {
	t.Helper()
	server := httptest.NewTLSServer(h)
	t.Cleanup(server.Close)
	config := clientcmdapi.NewConfig()
	config.Clusters["host"] = &clientcmdapi.Cluster{
		Server:                   server.URL,
		CertificateAuthorityData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}),
	}
	config.AuthInfos["bulletin"] = &clientcmdapi.AuthInfo{Token: "bulletin-token"}
	config.Contexts["host"] = &clientcmdapi.Context{Cluster: "host", AuthInfo: "bulletin"}
	config.CurrentContext = "host"
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// frontProxy makes a CA, PEM, and a client certificate of the name from it.
func frontProxy(name string) ([]byte, tls.Certificate) {
	ca := testcerts.New("front-proxy-ca")
	return ca.PEM, ca.Issue(testcerts.Subject{Name: name}).TLS()
}

func settings(ca []byte) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "extension-apiserver-authentication", ResourceVersion: "1"},
		Data: map[string]string{
			"requestheader-client-ca-file":       string(ca),
			"requestheader-allowed-names":        `["front-proxy"]`,
			"requestheader-username-headers":     `["X-Remote-User"]`,
			"requestheader-group-headers":        `["X-Remote-Group"]`,
			"requestheader-extra-headers-prefix": `["X-Remote-Extra-"]`,
		},
	}
}

func TestHostDecidesWhoMayCall(t *testing.T) {
	ca, proxy := frontProxy("front-proxy")
	_, stranger := frontProxy("front-proxy") // of a CA that the host does not name
	h := &host{settings: settings(ca), refusals: 3}
	server := start(t, delegate(startHost(t, h)))

	const list = "/apis/demo.annex.dev/v1/namespaces/default/notices"
	const health = "/readyz"
	tests := []struct {
		name    string
		cert    *tls.Certificate
		headers map[string]string
		path    string
		want    int
	}{
		{"alice through the proxy", &proxy, map[string]string{"X-Remote-User": "alice"}, list, http.StatusOK},
		{"bob through the proxy", &proxy, map[string]string{"X-Remote-User": "bob"}, list, http.StatusForbidden},
		{"an administrator through the proxy", &proxy, map[string]string{"X-Remote-User": "root", "X-Remote-Group": "system:masters"}, list, http.StatusOK},
		{"alice, said without a certificate", nil, map[string]string{"X-Remote-User": "alice"}, list, http.StatusForbidden},
		{"alice, said by a stranger", &stranger, map[string]string{"X-Remote-User": "alice"}, list, http.StatusUnauthorized},
		{"alice's token", nil, map[string]string{"Authorization": "Bearer alice-token"}, list, http.StatusOK},
		{"a false token", nil, map[string]string{"Authorization": "Bearer guess"}, list, http.StatusUnauthorized},
		{"anybody at the health check", nil, nil, health, http.StatusOK},
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(server.config.CAData) {
		t.Fatal("no root")
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			config := &tls.Config{RootCAs: roots}
			if test.cert != nil {
				// Sent whether or not the server asks for its CA.
				config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return test.cert, nil }
			}
			transport := &http.Transport{TLSClientConfig: config}
			defer transport.CloseIdleConnections()
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.config.Host+test.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			for key, value := range test.headers {
				request.Header.Set(key, value)
			}
			response, err := (&http.Client{Transport: transport, Timeout: patience}).Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			if response.StatusCode != test.want {
				t.Errorf("got %s, want %d", response.Status, test.want)
			}
		})
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	asked := false
	for _, review := range h.reviews {
		r := review.ResourceAttributes
		asked = asked || review.User == "alice" && r != nil && r.Group == "demo.annex.dev" && r.Resource == "notices" && r.Verb == "list"
	}
	if !asked {
		t.Errorf("the host was never asked whether alice may list notices: %+v", h.reviews)
	}
}

func TestStopWhileTheHostIsAway(t *testing.T) {
	h := &host{settings: settings(nil), refusals: 1 << 30}
	kubeconfig := startHost(t, h)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		ended <- Run(ctx, Options{Kubeconfig: kubeconfig, EtcdEndpoints: []string{"http://127.0.0.1:1"}, Listener: listener})
	}()
	eventually(t, "the first call to the host", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.refusals < 1<<30
	})
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("Run gave %v after its context ended, want nil", err)
		}
	case <-time.After(patience):
		t.Fatal("Run outlived its context")
	}
	if _, err := listener.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the listener that Run was given is still open: %v", err)
	}
}

func TestUnreadableKubeconfig(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none")
	err := Run(t.Context(), Options{Kubeconfig: path, EtcdEndpoints: []string{"http://127.0.0.1:1"}})
	if err == nil || !strings.Contains(fmt.Sprint(err), path) {
		t.Errorf("Run gave %v, want an error that names %s", err, path)
	}
}
