package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
)

const (
	controllerManager = "kube-controller-manager"
	flunderService    = "v1alpha1." + wardleGroup
)

// buildControllerManager builds it once, unless it is with the other binaries.
var buildControllerManager = sync.OnceValue(func() error {
	if _, err := os.Stat(binary(controllerManager)); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	build := exec.Command("go", "build", "-ldflags=-s -w", "-o", binary(controllerManager), "k8s.io/kubernetes/cmd/"+controllerManager)
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", controllerManager, err, out)
	}
	return nil
})

// startControllers runs the namespace controller, the garbage collector, and what aggregates ClusterRoles, as
// the admin.
func startControllers(t *testing.T, c *cluster) *process {
	t.Helper()
	return start(t, controllerManager, "--kubeconfig="+c.kubeconfig, "--secure-port=0", "--leader-elect=false",
		"--controllers=namespace-controller,garbage-collector-controller,clusterrole-aggregation-controller", "--kube-api-qps=200", "--kube-api-burst=400", "--v=2")
}

// arguments of a running process.
func (p *process) arguments(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.pid))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(text), "\x00"), "\x00")[1:]
}

// configMap makes one, with an owner unless it has no kind.
func (c *cluster) configMap(t *testing.T, namespace, name string, owner metav1.OwnerReference) types.UID {
	t.Helper()
	m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if owner.Kind != "" {
		m.OwnerReferences = []metav1.OwnerReference{owner}
	}
	m, err := c.kube.CoreV1().ConfigMaps(namespace).Create(t.Context(), m, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return m.UID
}

// collected makes a ConfigMap and a ReplicaSet with a dependent ConfigMap each, deletes them, and
// waits until the garbage collector has deleted the dependents.
func (c *cluster) collected(t *testing.T, namespace, prefix string) time.Duration {
	t.Helper()
	uid := c.configMap(t, namespace, prefix+"-owner", metav1.OwnerReference{})
	c.configMap(t, namespace, prefix+"-of-map", metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: prefix + "-owner", UID: uid})
	labels := map[string]string{"set": prefix}
	sets := c.kube.AppsV1().ReplicaSets(namespace)
	set, err := sets.Create(t.Context(), &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Name: prefix},
		Spec: appsv1.ReplicaSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: podSpec()},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c.configMap(t, namespace, prefix+"-of-set", metav1.OwnerReference{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: prefix, UID: set.UID})
	begin := time.Now()
	background := metav1.DeleteOptions{PropagationPolicy: new(metav1.DeletePropagationBackground)}
	if err := errors.Join(
		c.kube.CoreV1().ConfigMaps(namespace).Delete(t.Context(), prefix+"-owner", background),
		sets.Delete(t.Context(), prefix, background),
	); err != nil {
		t.Fatal(err)
	}
	eventually(t, prefix+": garbage collection of built-in dependents", func(ctx context.Context) error {
		list, err := c.kube.CoreV1().ConfigMaps(namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, m := range list.Items {
			if strings.HasPrefix(m.Name, prefix+"-") {
				return fmt.Errorf("%s is there", m.Name)
			}
		}
		return nil
	})
	return time.Since(begin)
}

func podSpec() corev1.PodSpec {
	return corev1.PodSpec{
		Containers:                   []corev1.Container{{Name: "c", Image: "example.com/none"}},
		AutomountServiceAccountToken: new(false),
	}
}

// fill makes a namespace with a ConfigMap, a Secret, a service account and a Pod.
func (c *cluster) fill(t *testing.T, namespace string) {
	t.Helper()
	ctx, core, name := t.Context(), c.kube.CoreV1(), metav1.ObjectMeta{Name: "default"}
	for _, err := range []error{
		create(ctx, core.Namespaces().Create, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}),
		create(ctx, core.ConfigMaps(namespace).Create, &corev1.ConfigMap{ObjectMeta: name}),
		create(ctx, core.Secrets(namespace).Create, &corev1.Secret{ObjectMeta: name}),
		create(ctx, core.ServiceAccounts(namespace).Create, &corev1.ServiceAccount{ObjectMeta: name}),
		create(ctx, core.Pods(namespace).Create, &corev1.Pod{ObjectMeta: name, Spec: podSpec()}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// emptied waits until the namespace controller has deleted what fill made.
func (c *cluster) emptied(t *testing.T, namespace string) time.Duration {
	t.Helper()
	begin := time.Now()
	eventually(t, "no built-in contents in "+namespace, func(ctx context.Context) error {
		core, all := c.kube.CoreV1(), metav1.ListOptions{}
		maps, err1 := core.ConfigMaps(namespace).List(ctx, all)
		secrets, err2 := core.Secrets(namespace).List(ctx, all)
		accounts, err3 := core.ServiceAccounts(namespace).List(ctx, all)
		pods, err4 := core.Pods(namespace).List(ctx, all)
		if err := errors.Join(err1, err2, err3, err4); err != nil {
			return err
		}
		if n := len(maps.Items) + len(secrets.Items) + len(accounts.Items) + len(pods.Items); n > 0 {
			return fmt.Errorf("%d objects are left", n)
		}
		return nil
	})
	return time.Since(begin)
}

// terminating errs unless the namespace is there and says that not everything in it is known.
func (c *cluster) terminating(ctx context.Context, namespace string) error {
	ns, err := c.kube.CoreV1().Namespaces().Get(ctx, namespace, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if ns.Status.Phase != corev1.NamespaceTerminating {
		return fmt.Errorf("its phase is %s", ns.Status.Phase)
	}
	for _, condition := range ns.Status.Conditions {
		unknown := condition.Type == corev1.NamespaceDeletionDiscoveryFailure || condition.Type == corev1.NamespaceDeletionContentFailure || condition.Type == corev1.NamespaceContentRemaining
		if unknown && condition.Status == corev1.ConditionTrue {
			return nil
		}
	}
	return fmt.Errorf("its conditions are %v", ns.Status.Conditions)
}

// stale errs unless discovery keeps the flunders and says that they are not confirmed.
func stale(ctx context.Context, c *cluster) error {
	how, resources, err := freshness(ctx, c, wardleGroup, "v1alpha1")
	if err != nil {
		return err
	}
	if how != "Stale" || !slices.Contains(resources, "flunders") {
		return fmt.Errorf("discovery has %v as %q", resources, how)
	}
	return nil
}

// frontProxy is the cluster's own identity towards sample-apiserver, for asking it without the
// cluster.
func (e *environment) frontProxy(t *testing.T, args []string) func(ctx context.Context) error {
	t.Helper()
	config := &rest.Config{TLSClientConfig: rest.TLSClientConfig{
		Insecure: true, CertFile: e.pki("front-proxy-client.crt"), KeyFile: e.pki("front-proxy-client.key"),
	}}
	for _, arg := range args {
		if port, ok := strings.CutPrefix(arg, "--secure-port="); ok {
			config.Host = "https://127.0.0.1:" + port
		}
	}
	return func(ctx context.Context) error {
		a, err := do(ctx, config, http.MethodGet, "/apis/wardle.example.com/v1alpha1", "", "X-Remote-User", "system:kube-aggregator", "X-Remote-Group", "system:masters")
		if err == nil && a.code != http.StatusOK {
			err = fmt.Errorf("%d %s", a.code, a.body)
		}
		return err
	}
}

// seesExtensionServers waits until who has one of the cluster's own roles may read what API servers see of
// extension servers.
func (c *cluster) seesExtensionServers(t *testing.T, role string) {
	t.Helper()
	name := "has-" + role
	if _, err := c.kube.RbacV1().ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: name}},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	user := c.user(t, name)
	eventually(t, "the right of who has the ClusterRole "+role, func(ctx context.Context) error {
		a, err := do(ctx, user, http.MethodGet, "/apis/aggregation.annex.dev/v1alpha1/remoteapiservices", "")
		if err == nil && a.code != http.StatusOK {
			err = fmt.Errorf("%d %s", a.code, a.body)
		}
		return err
	})
}

// TestControllersBesideADeadExtensionServer runs the real namespace controller and garbage
// collector while an extension server is dead, over a restart of the API server and of theirs.
func TestControllersBesideADeadExtensionServer(t *testing.T) {
	t.Parallel()
	if err := buildControllerManager(); err != nil {
		t.Fatal(err)
	}
	dir := shortTemp(t)
	data, at := filepath.Join(dir, "data"), "--port="+port(t)
	e := &environment{cluster: startUp(t, data, at), root: dir}
	if err := e.startWardle(t.Context()); err != nil {
		t.Fatal(err)
	}
	first := e.wardle
	t.Cleanup(func() { first.end(); first.show(t) })
	wardleArgs := e.wardle.arguments(t)
	eventually(t, "current discovery of the extension server", func(ctx context.Context) error {
		how, _, err := freshness(ctx, e.cluster, wardleGroup, "v1alpha1")
		if err == nil && how != "Current" {
			err = fmt.Errorf("it is %q", how)
		}
		return err
	})
	eventually(t, "the last known documents", func(ctx context.Context) error {
		list, err := e.kube.CoreV1().ConfigMaps(metav1.NamespaceSystem).List(ctx, metav1.ListOptions{LabelSelector: "aggregation.annex.dev/last-known"})
		if err == nil && len(list.Items) != 2 {
			err = fmt.Errorf("%d are kept, want those of two versions", len(list.Items))
		}
		return err
	})

	// Before: three namespaces, of which one has flunders, and a flunder that owns a ConfigMap.
	for _, ns := range []string{"with-flunders", "other", "later"} {
		e.fill(t, ns)
	}
	stays := e.namespace(t, "stays")
	flunder := &unstructured.Unstructured{Object: map[string]any{}}
	flunder.SetGroupVersionKind(flunders.GroupVersion().WithKind("Flunder"))
	flunder.SetName("one")
	var owner metav1.OwnerReference
	for _, ns := range []string{"with-flunders", stays} {
		made, err := e.dynamic.Resource(flunders).Namespace(ns).Create(t.Context(), flunder, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		owner = metav1.OwnerReference{APIVersion: made.GetAPIVersion(), Kind: made.GetKind(), Name: made.GetName(), UID: made.GetUID()}
	}
	dependent := e.configMap(t, stays, "of-flunder", owner)
	controllers := startControllers(t, e.cluster)
	for _, role := range []string{"view", "edit", "admin"} {
		e.seesExtensionServers(t, role)
	}
	t.Logf("before: garbage is collected after %v", e.collected(t, stays, "before"))

	begin := time.Now()
	e.wardle.kill()
	took := e.awaitCondition(t, flunderService, apiregistrationv1.ConditionFalse, begin)
	t.Logf("condition False %v after the death", took)
	if took > soon {
		t.Errorf("the condition turned False after %v, want at most %v", took, soon)
	}
	eventually(t, "flunders in discovery, marked Stale", func(ctx context.Context) error { return stale(ctx, e.cluster) })
	e.usable(t)

	deleted := func(ns string) {
		t.Helper()
		if err := e.kube.CoreV1().Namespaces().Delete(t.Context(), ns, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	deleted("with-flunders")
	deleted("other")
	t.Logf("beside the dead server: a namespace is emptied after %v, one with flunders after another %v, garbage is collected after %v",
		e.emptied(t, "other"), e.emptied(t, "with-flunders"), e.collected(t, stays, "beside"))
	eventually(t, "what the namespace with flunders says", func(ctx context.Context) error { return e.terminating(ctx, "with-flunders") })

	// Neither the API server nor the controllers have seen the extension server alive from here on.
	controllers.end()
	e.signal(syscall.SIGTERM)
	if code := e.exitCode(t); code != 0 {
		t.Errorf("exit code %d after SIGTERM, want 0", code)
	}
	e.cluster = startUp(t, data, at)
	if err := stale(t.Context(), e.cluster); err != nil {
		t.Errorf("after a restart, as soon as it is ready: %v", err)
	}
	e.usable(t)
	startControllers(t, e.cluster)
	deleted("later")
	t.Logf("after a restart of all but the dead server: a namespace is emptied after %v, garbage is collected after another %v",
		e.emptied(t, "later"), e.collected(t, stays, "after"))
	if err := e.terminating(t.Context(), "with-flunders"); err != nil {
		t.Errorf("the namespace with flunders: %v", err)
	}
	if err := stale(t.Context(), e.cluster); err != nil {
		t.Error(err)
	}

	e.wardle = start(t, "sample-apiserver", wardleArgs...)
	eventually(t, "answers of the extension server itself", e.frontProxy(t, wardleArgs))
	took = e.awaitCondition(t, flunderService, apiregistrationv1.ConditionTrue, time.Now())
	t.Logf("condition True %v after the return", took)
	if took > soon {
		t.Errorf("the condition turned True after %v, want at most %v", took, soon)
	}
	begin = time.Now()
	for _, ns := range []string{"with-flunders", "other", "later"} {
		eventually(t, "the end of the namespace "+ns, func(ctx context.Context) error {
			_, err := e.kube.CoreV1().Namespaces().Get(ctx, ns, metav1.GetOptions{})
			if apierrors.IsNotFound(err) {
				return nil
			}
			if err == nil {
				err = errors.New("it is there")
			}
			return err
		})
	}
	t.Logf("the namespaces are gone %v after that", time.Since(begin))
	list, err := e.dynamic.Resource(flunders).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(list.Items) != 1 || list.Items[0].GetNamespace() != stays || list.Items[0].GetUID() != owner.UID {
		t.Errorf("flunders at the end: %v, want only that of the namespace that was not deleted", list.Items)
	}
	if m, err := e.kube.CoreV1().ConfigMaps(stays).Get(t.Context(), "of-flunder", metav1.GetOptions{}); err != nil || m.UID != dependent {
		t.Errorf("what a flunder owns, after a time in which its owner was unknown: %v", err)
	}
}

// usable asserts that kubectl does what it does, but for flunders.
func (e *environment) usable(t *testing.T) {
	t.Helper()
	code, out, errOut := run(t, command{name: "kubectl", args: []string{"api-resources"}, env: []string{"KUBECONFIG=" + e.kubeconfig}})
	expect(t, "api-resources", out, "configmaps", "replicasets", "apiservices")
	if code != 0 {
		// kubectl lists what it knows, and names what it does not.
		expect(t, "api-resources' complaint", errOut, wardleGroup+"/v1alpha1")
	}
	expect(t, "get of built-ins", e.kubectl(t, "get", "configmaps,replicasets,pods,namespaces", "--all-namespaces"), "configmap/extension-apiserver-authentication", "namespace/stays")
	expect(t, "get of apiservices", e.kubectl(t, "get", "apiservices", flunderService), "False (FailedDiscoveryCheck)")
	if _, err := tryKubectl(t, e.kubeconfig, "", "get", "--raw="+"/apis/wardle.example.com/v1alpha1/flunders"); err == nil || !strings.Contains(err.Error(), "unavailable") && !strings.Contains(err.Error(), "ServiceUnavailable") {
		t.Errorf("get of flunders: %v, want it unavailable", err)
	}
}
