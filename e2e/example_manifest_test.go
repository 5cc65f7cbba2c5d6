package e2e

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/go-logr/logr/funcr"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/annex-api/annex/examples/bulletin"
	"github.com/annex-api/annex/extension"
	"github.com/annex-api/annex/extension/storage/drivers"
)

// bulletinManifest: what the example's manifest makes is valid, and its service account has all
// rights that the server asks for.
func bulletinManifest(t *testing.T, s *served) {
	const namespace = "bulletin-manifest"
	text, err := os.ReadFile("../examples/bulletin/deploy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	manifest := strings.NewReplacer("${NAMESPACE}", namespace, "${IMAGE}", "example.com/bulletin", "${CA_BUNDLE}", "", "${ETCD_HOST}", "etcd:2379").Replace(string(text))
	documents := strings.Split(manifest, "\n---\n")
	ofAPIServices := func(are bool) string {
		return strings.Join(slices.DeleteFunc(slices.Clone(documents), func(d string) bool { return strings.Contains(d, "kind: APIService") != are }), "\n---\n")
	}
	kubectl(t, s.kubeconfig, ofAPIServices(false), "apply")
	// The group is registered already.
	kubectl(t, s.kubeconfig, ofAPIServices(true), "apply", "--dry-run=server")

	request, err := s.kube.CoreV1().ServiceAccounts(namespace).CreateToken(t.Context(), "bulletin", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	host := rest.AnonymousClientConfig(s.admin)
	host.BearerToken = request.Status.Token
	if missing := missingRights(t, host); len(missing) > 0 {
		t.Errorf("the manifest gives the server less than it asks for:\n%s", strings.Join(missing, "\n"))
	}
	s.cluster.kubectl(t, "delete", "clusterrolebinding", "bulletin")
	eventually(t, "rights that are taken away are missed", func(context.Context) error {
		if len(missingRights(t, host)) == 0 {
			return errors.New("nothing is missed")
		}
		return nil
	})
}

// missingRights is what a server of notices says about them at its start.
func missingRights(t *testing.T, host *rest.Config) []string {
	t.Helper()
	var mu sync.Mutex
	var missing []string
	log := funcr.New(func(_, line string) {
		mu.Lock()
		defer mu.Unlock()
		if strings.Contains(line, "right is missing") {
			missing = append(missing, line)
		}
	}, funcr.Options{})
	server, err := extension.New(t.Context(), extension.Config{Name: "bulletin", Storage: "memory://", Host: host, Log: log}, bulletin.Notices, extension.Drivers(drivers.All()...))
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Close(); err != nil {
		t.Errorf("the server did not close: %v", err)
	}
	mu.Lock()
	defer mu.Unlock()
	return missing
}
