package e2e

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	aggregatorclient "k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset"
	apiserviceclient "k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset/typed/apiregistration/v1"
)

// notes is the extension server of extension/internal/testserver, with the rights that its
// own manifest asks for.
type notes struct {
	*cluster
	name, group string
	args        []string
	ports       []int
	apis        apiserviceclient.APIServiceInterface
}

// manifest is what testserver prints.
type manifest struct {
	ClusterRole, Role []rbacv1.PolicyRule
	Bind              []struct{ Namespace, Name string }
}

// newNotes prepares the host for a server. Rights for resources in without are left out.
func newNotes(t *testing.T, c *cluster, name string, without func(resource string) bool, args ...string) *notes {
	t.Helper()
	n := &notes{cluster: c, name: name, group: name + ".example.com"}
	client, err := aggregatorclient.NewForConfig(c.admin)
	if err != nil {
		t.Fatal(err)
	}
	n.apis = client.ApiregistrationV1().APIServices()
	n.args = append([]string{"--name=" + name, "--namespace=" + name, "--group=" + n.group}, args...)
	code, out, errOut := run(t, command{name: "testserver", args: append(n.args, "--manifest")})
	if code != 0 {
		t.Fatalf("testserver --manifest: %s", errOut)
	}
	var m manifest
	if err := json.Unmarshal([]byte(out), &m); err != nil {
		t.Fatal(err)
	}
	config, err := n.account(t.Context(), m, without)
	if err != nil {
		t.Fatal(err)
	}
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err := writeKubeconfig(kubeconfig, config); err != nil {
		t.Fatal(err)
	}
	n.args = append(n.args, "--kubeconfig="+kubeconfig)
	t.Cleanup(func() {
		ctx := context.Background()
		_ = n.apis.Delete(ctx, n.apiService(), metav1.DeleteOptions{}) // a test may have deleted it
		for _, err := range []error{
			c.kube.RbacV1().ClusterRoleBindings().DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "of=" + name}),
			c.kube.RbacV1().ClusterRoles().DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "of=" + name}),
		} {
			if err != nil {
				t.Errorf("clean up: %v", err)
			}
		}
	})
	return n
}

func (n *notes) apiService() string { return "v1." + n.group }

// account makes the service account with the rights of a manifest, and returns its token.
func (n *notes) account(ctx context.Context, m manifest, without func(string) bool) (*rest.Config, error) {
	meta := metav1.ObjectMeta{Name: n.name, Labels: map[string]string{"of": n.name}}
	subjects := []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: n.name, Name: n.name}}
	var rules []rbacv1.PolicyRule
	for _, rule := range m.ClusterRole {
		var kept []string
		for _, resource := range rule.Resources {
			if without == nil || !without(resource) {
				kept = append(kept, resource)
			}
		}
		if rule.Resources = kept; len(kept) > 0 {
			rules = append(rules, rule)
		}
	}
	rbac := n.kube.RbacV1()
	role := func(kind, name string) rbacv1.RoleRef {
		return rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: kind, Name: name}
	}
	errs := []error{
		create(ctx, n.kube.CoreV1().Namespaces().Create, &corev1.Namespace{ObjectMeta: meta}),
		create(ctx, n.kube.CoreV1().ServiceAccounts(n.name).Create, &corev1.ServiceAccount{ObjectMeta: meta}),
		create(ctx, n.kube.CoreV1().Services(n.name).Create, &corev1.Service{
			ObjectMeta: meta, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "localhost"},
		}),
		create(ctx, rbac.ClusterRoles().Create, &rbacv1.ClusterRole{ObjectMeta: meta, Rules: rules}),
		create(ctx, rbac.ClusterRoleBindings().Create, &rbacv1.ClusterRoleBinding{ObjectMeta: meta, Subjects: subjects, RoleRef: role("ClusterRole", n.name)}),
		create(ctx, rbac.Roles(n.name).Create, &rbacv1.Role{ObjectMeta: meta, Rules: m.Role}),
		create(ctx, rbac.RoleBindings(n.name).Create, &rbacv1.RoleBinding{ObjectMeta: meta, Subjects: subjects, RoleRef: role("Role", n.name)}),
	}
	for _, b := range m.Bind {
		bound := metav1.ObjectMeta{Name: n.name + "-" + strings.ReplaceAll(b.Name, ":", "-"), Labels: meta.Labels}
		if b.Namespace == "" {
			errs = append(errs, create(ctx, rbac.ClusterRoleBindings().Create, &rbacv1.ClusterRoleBinding{ObjectMeta: bound, Subjects: subjects, RoleRef: role("ClusterRole", b.Name)}))
		} else {
			errs = append(errs, create(ctx, rbac.RoleBindings(b.Namespace).Create, &rbacv1.RoleBinding{ObjectMeta: bound, Subjects: subjects, RoleRef: role("Role", b.Name)}))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	request, err := n.kube.CoreV1().ServiceAccounts(n.name).CreateToken(ctx, n.name, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("ask for a token: %w", err)
	}
	config := rest.AnonymousClientConfig(n.admin)
	config.BearerToken = request.Status.Token
	return config, nil
}

// serve starts a replica.
func (n *notes) serve(t *testing.T, args ...string) *process {
	t.Helper()
	p, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	n.ports = append(n.ports, p)
	args = append(append([]string{"--port=" + strconv.Itoa(p), "--data=" + filepath.Join(shortTemp(t), "data")}, n.args...), args...)
	return start(t, "testserver", args...)
}

// available waits until the host sends requests to the server.
func (n *notes) available(t *testing.T) {
	t.Helper()
	eventually(t, n.apiService()+" is not available", func(ctx context.Context) error {
		a, err := n.apis.Get(ctx, n.apiService(), metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, c := range a.Status.Conditions {
			if c.Type == apiregistrationv1.Available && c.Status == apiregistrationv1.ConditionTrue {
				return nil
			}
		}
		return fmt.Errorf("conditions %v", a.Status.Conditions)
	})
}

// write makes a note, and gives the answer.
func (n *notes) write(ctx context.Context, namespace, name, text string) (answer, error) {
	return n.writeBy(ctx, n.admin, namespace, name, text)
}

// writeBy is write of somebody else, or by another way.
func (n *notes) writeBy(ctx context.Context, by *rest.Config, namespace, name, text string) (answer, error) {
	body := fmt.Sprintf(`{"apiVersion":%q,"kind":"Note","metadata":{"name":%q},"text":%q}`, n.group+"/v1", name, text)
	return do(ctx, by, http.MethodPost, "/apis/"+n.group+"/v1/namespaces/"+namespace+"/notes", body, "Content-Type", "application/json")
}

// shown is the serial number of the certificate at a port.
func shown(t *testing.T, port int) string {
	t.Helper()
	conn, err := tls.Dial("tcp", "127.0.0.1:"+strconv.Itoa(port), &tls.Config{InsecureSkipVerify: true}) // only to look at it
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
}

// TestExtensionCertificatesRotateUnderLoad: over several certificates and CAs no request
// through the host fails.
func TestExtensionCertificatesRotateUnderLoad(t *testing.T) {
	longForm(t)
	n := newNotes(t, shared(t).cluster, "rotates", nil)
	n.serve(t, "--life=9s", "--ca-life=30s", "--overlap=5s")
	n.available(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var sent atomic.Int64
	failed := make(chan string, 1)
	var load sync.WaitGroup
	for i := range 4 {
		load.Go(func() {
			for j := 0; ctx.Err() == nil; j++ {
				a, err := n.write(ctx, "default", fmt.Sprintf("note-%d-%d", i, j), "x")
				if ctx.Err() != nil {
					return
				}
				if sent.Add(1); err != nil || a.code != http.StatusCreated {
					select {
					case failed <- fmt.Sprintf("after %d requests: %d %s %v", sent.Load(), a.code, a.body, err):
					default:
					}
				}
				// A request over a connection that is there says nothing of certificates: the
				// host makes a new one when the bundle changes, and when it probes.
				if a, err := do(ctx, n.admin, http.MethodGet, "/apis/"+n.group+"/v1", ""); ctx.Err() == nil && (err != nil || a.code != http.StatusOK) {
					select {
					case failed <- fmt.Sprintf("discovery: %d %s %v", a.code, a.body, err):
					default:
					}
				}
			}
		})
	}
	certificates, bundles := map[string]bool{}, map[string]bool{}
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil {
		certificates[shown(t, n.ports[0])] = true
		if a, err := n.apis.Get(ctx, n.apiService(), metav1.GetOptions{}); err == nil {
			bundles[string(a.Spec.CABundle)] = true
			for _, c := range a.Status.Conditions {
				if c.Type == apiregistrationv1.Available && c.Status != apiregistrationv1.ConditionTrue {
					t.Errorf("not available: %s: %s", c.Reason, c.Message)
				}
			}
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	load.Wait()
	select {
	case what := <-failed:
		t.Error(what)
	default:
	}
	// A CA is announced after 20 s, signs after 25, is alone after 30.
	if len(certificates) < 6 || len(bundles) < 4 || sent.Load() < 100 {
		t.Errorf("%d certificates, %d bundles, %d requests: too few to say anything", len(certificates), len(bundles), sent.Load())
	}
	t.Logf("%d certificates, %d bundles, %d writes", len(certificates), len(bundles), sent.Load())
}

// TestExtensionRegistrationComesBack: what others strip, set and delete is set right, and a
// stop of the server removes nothing.
func TestExtensionRegistrationComesBack(t *testing.T) {
	n := newNotes(t, shared(t).cluster, "comesback", nil)
	server := n.serve(t)
	n.available(t)
	before, err := n.apis.Get(t.Context(), n.apiService(), metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	role, err := n.kube.RbacV1().ClusterRoles().Get(t.Context(), n.name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(before.OwnerReferences) != 1 || before.OwnerReferences[0].UID != role.UID {
		t.Errorf("its owners are %v", before.OwnerReferences)
	}
	// The order matters: the log names only those who begin a fight. Who sets a field owns
	// it, and who removes one owns nothing and cannot be named.
	for _, c := range []struct {
		what   string
		change func(context.Context) error
		log    string
	}{
		{"insecure", func(ctx context.Context) error {
			a, err := n.apis.Get(ctx, n.apiService(), metav1.GetOptions{})
			if err != nil {
				return err
			}
			a.Spec.CABundle, a.Spec.InsecureSkipTLSVerify = nil, true
			_, err = n.apis.Update(ctx, a, metav1.UpdateOptions{FieldManager: "kapp"})
			return err
		}, `"kapp"`},
		{"stripped", func(ctx context.Context) error {
			a, err := n.apis.Get(ctx, n.apiService(), metav1.GetOptions{})
			if err != nil {
				return err
			}
			a.Spec.CABundle = nil
			_, err = n.apis.Update(ctx, a, metav1.UpdateOptions{FieldManager: "kapp"})
			return err
		}, `"spec.caBundle"`},
		{"deleted", func(ctx context.Context) error { return n.apis.Delete(ctx, n.apiService(), metav1.DeleteOptions{}) }, ""},
	} {
		eventually(t, c.what, c.change) // a conflict with the writer of the status
		eventually(t, c.what+" and not set right", func(ctx context.Context) error {
			a, err := n.apis.Get(ctx, n.apiService(), metav1.GetOptions{})
			if err != nil {
				return err
			}
			if string(a.Spec.CABundle) != string(before.Spec.CABundle) || a.Spec.InsecureSkipTLSVerify || len(a.OwnerReferences) != 1 {
				return fmt.Errorf("it is %+v", a.Spec)
			}
			return nil
		})
		n.available(t)
		if _, err := server.awaitOutput(server.stderr, c.log); err != nil {
			t.Errorf("%s: the log does not say %s: %v", c.what, c.log, err)
		}
	}
	server.signal(syscall.SIGTERM)
	if code := server.exitCode(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if _, err := n.apis.Get(t.Context(), n.apiService(), metav1.GetOptions{}); err != nil {
		t.Errorf("after a stop: %v", err)
	}
}

// TestExtensionUninstall: with its ClusterRole the APIService goes, and does not come back.
func TestExtensionUninstall(t *testing.T) {
	c := shared(t).cluster
	if err := buildControllerManager(); err != nil {
		t.Fatal(err)
	}
	startControllers(t, c)
	n := newNotes(t, c, "uninstalls", nil)
	server := n.serve(t)
	n.available(t)
	if err := c.kube.RbacV1().ClusterRoles().Delete(t.Context(), n.name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the APIService stays", func(ctx context.Context) error {
		list, err := n.apis.List(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + n.apiService()})
		if err == nil && len(list.Items) > 0 {
			err = errors.New("it is there")
		}
		return err
	})
	if _, err := server.awaitOutput(server.stderr, `"Not registered"`); err != nil {
		t.Error(err)
	}
	server.signal(syscall.SIGTERM)
	server.exitCode(t)
	list, err := n.apis.List(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=" + n.apiService()})
	if err != nil || len(list.Items) > 0 {
		t.Errorf("after the uninstallation there is %v, %v", list.Items, err)
	}
}

// TestExtensionReplicasShareTheirSecret: two that start together show one certificate.
func TestExtensionReplicasShareTheirSecret(t *testing.T) {
	longForm(t)
	n := newNotes(t, shared(t).cluster, "replicas", nil, "--secret=replicas-serving")
	one, two := n.serve(t), n.serve(t)
	for _, p := range []*process{one, two} {
		if _, err := p.awaitOutput(p.stderr, "Serving securely on"); err != nil {
			t.Fatal(err)
		}
	}
	if a, b := shown(t, n.ports[0]), shown(t, n.ports[1]); a != b {
		t.Errorf("the replicas show certificates %s and %s", a, b)
	}
	if one, two := one.stderr.String(), two.stderr.String(); strings.Contains(one, "Missing right") || strings.Contains(two, "Missing right") {
		t.Error("the manifest does not give all rights")
	}
	n.available(t)
}

// TestExtensionWithoutRights: what is missing is named, and writes are served all the same.
func TestExtensionWithoutRights(t *testing.T) {
	n := newNotes(t, shared(t).cluster, "without", func(resource string) bool {
		return strings.Contains(resource, "webhook") || strings.Contains(resource, "polic") || strings.Contains(resource, "flow") || resource == "namespaces"
	})
	server := n.serve(t)
	n.available(t)
	a, err := n.write(t.Context(), "default", "one", "x")
	if err != nil || a.code != http.StatusCreated {
		t.Errorf("a write gives %d %s %v", a.code, a.body, err)
	}
	log := server.stderr.String()
	for _, line := range []string{
		"this server may not list, watch mutatingwebhookconfigurations.admissionregistration.k8s.io",
		"this server may not list, watch validatingadmissionpolicies.admissionregistration.k8s.io",
		"this server may not list, watch flowschemas.flowcontrol.apiserver.k8s.io",
		"this server may not get, list, watch namespaces",
		`"resources":["validatingwebhookconfigurations"]`,
		"Admission plugin ValidatingAdmissionWebhook is off",
		"Priority and fairness is off",
	} {
		if !strings.Contains(strings.ReplaceAll(log, `\"`, `"`), line) {
			t.Errorf("the log does not say %q:\n%s", line, tail(log))
		}
	}
	if strings.Contains(log, "is forbidden: User") {
		t.Errorf("an informer asks for what it may not have:\n%s", tail(log))
	}
}

// TestExtensionWaitsForItsRights: a server whose admission must be on is not ready while it may
// not see the host's policies, names what is missing, and is ready once it may, without a restart.
func TestExtensionWaitsForItsRights(t *testing.T) {
	longForm(t)
	n := newNotes(t, shared(t).cluster, "waits", func(resource string) bool { return strings.Contains(resource, "validatingadmissionpolicies") }, "--admission-on")
	server := n.serve(t)
	if _, err := server.awaitOutput(server.stderr, "Admission plugin ValidatingAdmissionPolicy must be on"); err != nil {
		t.Fatal(err)
	}
	if _, err := server.awaitOutput(server.stderr, "Serving securely on"); err != nil {
		t.Fatal(err)
	}
	direct := &rest.Config{Host: "https://127.0.0.1:" + strconv.Itoa(n.ports[0]), TLSClientConfig: rest.TLSClientConfig{Insecure: true}}
	seen := func(ctx context.Context) error {
		a, err := do(ctx, direct, http.MethodGet, "/readyz/host-policies", "")
		if err == nil && a.code != http.StatusOK {
			err = fmt.Errorf("%d %s", a.code, a.body)
		}
		return err
	}
	eventually(t, "readiness does not name what is missing", func(ctx context.Context) error {
		err := seen(ctx)
		if err == nil {
			t.Fatal("the server is ready without seeing the host's policies")
		}
		if !strings.Contains(err.Error(), "not seen yet: *v1.ValidatingAdmissionPolicy; at the start: this server may not list, watch validatingadmissionpolicies") {
			return err
		}
		return nil
	})
	if list, err := n.apis.List(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=" + n.apiService()}); err != nil || len(list.Items) > 0 {
		t.Errorf("before it is ready, the host has %v, %v", list.Items, err)
	}
	role, err := n.kube.RbacV1().ClusterRoles().Get(t.Context(), n.name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	role.Rules = append(role.Rules, rbacv1.PolicyRule{
		APIGroups: []string{"admissionregistration.k8s.io"}, Resources: []string{"validatingadmissionpolicies"}, Verbs: []string{"list", "watch"},
	})
	if _, err := n.kube.RbacV1().ClusterRoles().Update(t.Context(), role, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the policies are not seen", seen)
	n.available(t)
}

// TestExtensionObeysPoliciesOfTheHost: policies and the life of namespaces are the host's.
func TestExtensionObeysPoliciesOfTheHost(t *testing.T) {
	n := newNotes(t, shared(t).cluster, "obeys", nil)
	n.serve(t)
	n.available(t)
	admission := n.kube.AdmissionregistrationV1()
	policy := &admissionregistrationv1.ValidatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "obeys"},
		Spec: admissionregistrationv1.ValidatingAdmissionPolicySpec{
			MatchConstraints: &admissionregistrationv1.MatchResources{ResourceRules: []admissionregistrationv1.NamedRuleWithOperations{{
				RuleWithOperations: admissionregistrationv1.RuleWithOperations{
					Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
					Rule:       admissionregistrationv1.Rule{APIGroups: []string{n.group}, APIVersions: []string{"*"}, Resources: []string{"notes"}},
				},
			}}},
			Validations: []admissionregistrationv1.Validation{{Expression: "object.text != 'secret'", Message: "no secrets in notes"}},
		},
	}
	binding := &admissionregistrationv1.ValidatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "obeys"},
		Spec:       admissionregistrationv1.ValidatingAdmissionPolicyBindingSpec{PolicyName: "obeys", ValidationActions: []admissionregistrationv1.ValidationAction{admissionregistrationv1.Deny}},
	}
	if err := errors.Join(
		create(t.Context(), admission.ValidatingAdmissionPolicies().Create, policy),
		create(t.Context(), admission.ValidatingAdmissionPolicyBindings().Create, binding),
	); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(
			admission.ValidatingAdmissionPolicyBindings().Delete(context.Background(), "obeys", metav1.DeleteOptions{}),
			admission.ValidatingAdmissionPolicies().Delete(context.Background(), "obeys", metav1.DeleteOptions{}),
		); err != nil {
			t.Error(err)
		}
	})
	tries := 0
	eventually(t, "the policy is not obeyed", func(ctx context.Context) error {
		tries++
		a, err := n.write(ctx, "default", fmt.Sprintf("secret-%d", tries), "secret")
		if err == nil && (a.code != http.StatusUnprocessableEntity || !strings.Contains(a.body, "no secrets in notes")) {
			err = fmt.Errorf("%d %s", a.code, a.body)
		}
		return err
	})
	if a, err := n.write(t.Context(), "default", "open", "open"); err != nil || a.code != http.StatusCreated {
		t.Errorf("a write that the policy allows gives %d %s %v", a.code, a.body, err)
	}
	if a, err := n.write(t.Context(), "nowhere", "one", "open"); err != nil || a.code != http.StatusNotFound || !strings.Contains(a.body, "nowhere") {
		t.Errorf("a write to a namespace that is not there gives %d %s %v", a.code, a.body, err)
	}
}
