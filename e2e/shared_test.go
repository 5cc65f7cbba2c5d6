package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/annex-api/annex/internal/testcerts"
)

const (
	wardleGroup     = "wardle.example.com"
	wardleNamespace = "wardle"
	wardleAccount   = "apiserver"
)

// environment is what tests share that change only objects with names of their own: a server, and
// sample-apiserver registered with it.
type environment struct {
	*cluster
	wardle *process
	root   string
}

var (
	sharedOnce sync.Once
	sharedEnv  = &environment{}
	errShared  error
)

// shared starts the environment when the first test asks for it.
func shared(t *testing.T) *environment {
	t.Helper()
	sharedOnce.Do(func() { errShared = sharedEnv.start(context.Background()) })
	t.Cleanup(func() {
		if sharedEnv.cluster != nil {
			sharedEnv.show(t)
		}
		if sharedEnv.wardle != nil {
			sharedEnv.wardle.show(t)
		}
	})
	if errShared != nil {
		t.Fatalf("start the shared servers: %v", errShared)
	}
	return sharedEnv
}

// stopShared ends what shared started.
func stopShared() {
	if sharedEnv.wardle != nil {
		sharedEnv.wardle.end()
	}
	if sharedEnv.cluster != nil {
		sharedEnv.end()
	}
	if sharedEnv.root != "" {
		_ = os.RemoveAll(sharedEnv.root) // below the folder for temporary files
	}
}

func (e *environment) start(ctx context.Context) (err error) {
	if e.root, err = os.MkdirTemp("", "annex-e2e-"); err != nil {
		return err
	}
	if e.cluster, err = launchUp(filepath.Join(e.root, "data"), "--port=0", "--verbose"); err != nil {
		return err
	}
	return e.startWardle(ctx)
}

// startWardle runs sample-apiserver with a service account that may do no more than it needs.
func (e *environment) startWardle(ctx context.Context) error {
	config, err := e.wardleAccount(ctx)
	if err != nil {
		return err
	}
	kubeconfig := filepath.Join(e.root, "wardle.kubeconfig")
	if err := writeKubeconfig(kubeconfig, config); err != nil {
		return err
	}
	ca := testcerts.New("wardle-ca")
	port, err := freePort()
	if err != nil {
		return err
	}
	r := registration{namespace: wardleNamespace, service: "wardle-server", group: wardleGroup, version: "v1alpha1", port: port, ca: ca.PEM}
	certFile, keyFile, err := ca.Issue(testcerts.Subject{Name: "wardle", Hosts: []string{r.host()}}).Write(e.root, "wardle")
	if err != nil {
		return err
	}
	e.wardle, err = launch(command{name: "sample-apiserver", args: []string{
		"--kubeconfig=" + kubeconfig, "--authentication-kubeconfig=" + kubeconfig, "--authorization-kubeconfig=" + kubeconfig,
		"--etcd-servers=" + e.etcd(), "--etcd-prefix=/registry/wardle.example.com",
		"--bind-address=127.0.0.1", "--secure-port=" + strconv.Itoa(port),
		"--tls-cert-file=" + certFile, "--tls-private-key-file=" + keyFile,
		"--feature-gates=kube:CBORServingAndStorage=true",
	}})
	if err != nil {
		return err
	}
	if err := e.register(ctx, r); err != nil {
		return fmt.Errorf("%w; sample-apiserver says: %s", err, tail(e.wardle.stderr.String()))
	}
	r.version = "v1beta1"
	return e.register(ctx, r)
}

// wardleAccount makes the service account with its rights, and returns its token.
func (e *environment) wardleAccount(ctx context.Context) (*rest.Config, error) {
	name := metav1.ObjectMeta{Name: "wardle"}
	subjects := []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: wardleNamespace, Name: wardleAccount}}
	binding := func(name, role string) *rbacv1.ClusterRoleBinding {
		return &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: name}, Subjects: subjects,
			RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
		}
	}
	read := []string{"get", "list", "watch"}
	rbac := e.kube.RbacV1()
	for _, err := range []error{
		create(ctx, e.kube.CoreV1().Namespaces().Create, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: wardleNamespace}}),
		create(ctx, e.kube.CoreV1().ServiceAccounts(wardleNamespace).Create, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: wardleAccount}}),
		create(ctx, rbac.ClusterRoleBindings().Create, binding("wardle-delegates", "system:auth-delegator")),
		create(ctx, rbac.RoleBindings(metav1.NamespaceSystem).Create, &rbacv1.RoleBinding{
			ObjectMeta: name, Subjects: subjects,
			RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "extension-apiserver-authentication-reader"},
		}),
		create(ctx, rbac.ClusterRoles().Create, &rbacv1.ClusterRole{ObjectMeta: name, Rules: []rbacv1.PolicyRule{
			{APIGroups: []string{""}, Resources: []string{"namespaces"}, Verbs: read},
			{APIGroups: []string{"admissionregistration.k8s.io"}, Resources: []string{"*"}, Verbs: read},
			{APIGroups: []string{"flowcontrol.apiserver.k8s.io"}, Resources: []string{"flowschemas", "prioritylevelconfigurations"}, Verbs: read},
		}}),
		create(ctx, rbac.ClusterRoleBindings().Create, binding("wardle", "wardle")),
	} {
		if err != nil {
			return nil, err
		}
	}
	request, err := e.kube.CoreV1().ServiceAccounts(wardleNamespace).CreateToken(ctx, wardleAccount, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("ask for a token: %w", err)
	}
	config := rest.AnonymousClientConfig(e.admin)
	config.BearerToken = request.Status.Token
	return config, nil
}
