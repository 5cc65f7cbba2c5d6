package kubeapiserver_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api/v1"
	"sigs.k8s.io/yaml"

	test "github.com/annex-api/annex/kubeapiserver/kubeapiservertest"
)

// server is shared by the tests of this package; each uses groups and Services
// of its own.
var server *test.Server

// asked is the authorizer that Carol's requests end at.
var asked authorizer

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	utilruntime.ErrorHandlers = append(utilruntime.ErrorHandlers, handled.handle)
	names, err := serveNames()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer names.Close()
	dir, err := os.MkdirTemp("", "annex-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	webhook := httptest.NewServer(&asked)
	defer webhook.Close()
	kubeconfig, err := kubeconfigOf(dir, webhook.URL)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	server, err = test.Launch(
		"--authorization-mode=RBAC,Webhook",
		"--authorization-webhook-version=v1",
		"--authorization-webhook-config-file="+kubeconfig,
		"--authorization-webhook-cache-authorized-ttl=0s",
		"--authorization-webhook-cache-unauthorized-ttl=0s",
		"--requestheader-username-headers=X-Remote-User,X-Corp-User",
		"--requestheader-uid-headers=X-Remote-Uid,X-Corp-Uid",
		"--requestheader-group-headers=X-Remote-Group,X-Corp-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-,X-Corp-Extra-",
	)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if err := server.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, "stopping the server:", err)
		code = max(code, 1)
	}
	return code
}

func gv(group, version string) schema.GroupVersion {
	return schema.GroupVersion{Group: group, Version: version}
}

func kubeconfigOf(dir, url string) (string, error) {
	data, err := yaml.Marshal(clientcmdapi.Config{
		APIVersion: "v1", Kind: "Config", CurrentContext: "webhook",
		Clusters:  []clientcmdapi.NamedCluster{{Name: "webhook", Cluster: clientcmdapi.Cluster{Server: url}}},
		Contexts:  []clientcmdapi.NamedContext{{Name: "webhook", Context: clientcmdapi.Context{Cluster: "webhook", AuthInfo: "apiserver"}}},
		AuthInfos: []clientcmdapi.NamedAuthInfo{{Name: "apiserver"}},
	})
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "webhook.kubeconfig")
	return file, os.WriteFile(file, data, 0o600)
}

// authorizer allows what Carol asks for, and remembers it.
type authorizer struct {
	mu      sync.Mutex
	reviews []authorizationv1.SubjectAccessReviewSpec
}

func (a *authorizer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var review authorizationv1.SubjectAccessReview
	if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if review.Spec.User == "carol" {
		a.mu.Lock()
		a.reviews = append(a.reviews, review.Spec)
		a.mu.Unlock()
		review.Status.Allowed = true
	}
	test.JSON(w, authorizationv1.SubjectAccessReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "authorization.k8s.io/v1", Kind: "SubjectAccessReview"}, Status: review.Status,
	})
}

// take returns what was asked since the last call.
func (a *authorizer) take() []authorizationv1.SubjectAccessReviewSpec {
	a.mu.Lock()
	defer a.mu.Unlock()
	reviews := a.reviews
	a.reviews = nil
	return reviews
}

// serveNames makes this process resolve the names below .attack.test: those
// that an attacker's name server would answer for.
func serveNames() (net.PacketConn, error) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("starting the name server: %w", err)
	}
	go answerNames(conn)
	net.DefaultResolver = resolverAt(conn.LocalAddr().String())
	return conn, nil
}
