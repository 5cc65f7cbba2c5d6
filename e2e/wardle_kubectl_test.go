package e2e

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/annex-api/annex/kubeapiserver/version"
)

// flunder is a manifest; reference is its only content.
func flunder(name, reference string) string {
	return fmt.Sprintf("apiVersion: wardle.example.com/v1alpha1\nkind: Flunder\nmetadata:\n  name: %s\nspec:\n  reference: %s\n  referenceType: Flunder\n", name, reference)
}

// namespace makes one for a test.
func (e *environment) namespace(t *testing.T, name string) string {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if _, err := e.kube.CoreV1().Namespaces().Create(t.Context(), ns, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return name
}

func expect(t *testing.T, what, got string, wants ...string) {
	t.Helper()
	for _, want := range wants {
		if !strings.Contains(got, want) {
			t.Errorf("%s: no %q in\n%s", what, want, got)
		}
	}
}

// TestKubectl does what people do, with an extension server that nobody here wrote.
func TestKubectl(t *testing.T) {
	t.Parallel()
	e := shared(t)
	ns := e.namespace(t, "kubectl")
	k := func(args ...string) string { t.Helper(); return e.kubectl(t, append(args, "--namespace="+ns)...) }
	in := func(input string, args ...string) string {
		t.Helper()
		return kubectl(t, e.kubeconfig, input, append(args, "--namespace="+ns)...)
	}

	const alpha = "flunders.v1alpha1.wardle.example.com" // not the preferred version, whose fields differ

	expect(t, "apiservices", k("get", "apiservices", "v1alpha1.wardle.example.com"), "wardle/wardle-server", "True")
	expect(t, "api-resources", k("api-resources", "--api-group=wardle.example.com"), "flunders", "fischers", "wardle.example.com/v1alpha1", "Flunder")
	eventually(t, "kubectl explain", func(context.Context) error {
		_, err := tryKubectl(t, e.kubeconfig, "", "explain", "flunders.spec.referenceType", "--api-version=wardle.example.com/v1alpha1")
		return err
	})
	expect(t, "explain", k("explain", "flunders.spec", "--api-version=wardle.example.com/v1alpha1"), "reference", "FlunderSpec")

	watch := startCommand(t, command{
		name: "kubectl", args: []string{"get", "flunders", "--watch", "--output-watch-events", "--no-headers", "--namespace=" + ns},
		env: []string{"KUBECONFIG=" + e.kubeconfig},
	})

	expect(t, "create", in(flunder("one", "first"), "create"), "flunder.wardle.example.com/one created")
	expect(t, "apply of what was made without", in(flunder("one", "second"), "apply"), "configured")
	expect(t, "apply", in(flunder("two", "first"), "apply"), "created")
	expect(t, "apply again", in(flunder("two", "first"), "apply"), "unchanged")
	expect(t, "get", k("get", "flunders"), "NAME", "one", "two")
	expect(t, "get as yaml", k("get", alpha, "one", "--output=yaml"), "reference: second", "last-applied-configuration")
	expect(t, "a field", k("get", alpha, "two", "--output=jsonpath={.spec.referenceType}"), "Flunder")

	expect(t, "server-side apply", in(flunder("three", "before"), "apply", "--server-side", "--field-manager=a"), "serverside-applied")
	_, err := tryKubectl(t, e.kubeconfig, flunder("three", "other"), "apply", "--server-side", "--field-manager=b", "--namespace="+ns)
	if err == nil || !strings.Contains(err.Error(), "conflict with \"a\"") {
		t.Errorf("server-side apply by another manager gave %v, want a conflict with \"a\"", err)
	}
	in(flunder("three", "other"), "apply", "--server-side", "--field-manager=b", "--force-conflicts")
	expect(t, "forced apply", k("get", alpha, "three", "--output=jsonpath={.spec.reference}"), "other")

	expect(t, "merge patch", k("patch", alpha, "three", "--type=merge", `--patch={"spec":{"reference":"before"}}`), "patched")
	expect(t, "JSON patch", k("patch", alpha, "two", "--type=json", `--patch=[{"op":"replace","path":"/spec/reference","value":"patched"}]`), "patched")
	expect(t, "edit", k("edit", alpha, "three"), "edited")
	expect(t, "what edit wrote", k("get", alpha, "three", "--output=jsonpath={.spec.reference}"), "after")
	expect(t, "label", k("label", "flunder", "three", "colour=blue"), "labeled")
	expect(t, "selector", k("get", "flunders", "--selector=colour=blue", "--output=name"), "flunder.wardle.example.com/three")
	expect(t, "describe", k("describe", alpha, "three"), "colour=blue", "Reference:")
	if _, err := tryKubectl(t, e.kubeconfig, strings.Replace(flunder("bad", "x"), "referenceType", "unknownField", 1), "apply", "--namespace="+ns); err == nil || !strings.Contains(err.Error(), "unknownField") {
		t.Errorf("a manifest with an unknown field gave %v, want it refused by name", err)
	}
	expect(t, "dry run", in(flunder("dry", "x"), "create", "--dry-run=server"), "created (server dry run)")
	if out := k("get", "flunders", "--output=name"); strings.Contains(out, "dry") {
		t.Errorf("a dry run left an object: %s", out)
	}

	expect(t, "delete", k("delete", "flunder", "two"), "deleted")
	expect(t, "delete by label", k("delete", "flunders", "--selector=colour=blue"), "deleted")
	if _, err := tryKubectl(t, e.kubeconfig, "", "get", "flunder", "two", "--namespace="+ns); err == nil || !strings.Contains(err.Error(), "NotFound") {
		t.Errorf("a deleted object: %v, want NotFound", err)
	}
	for _, line := range []string{"ADDED      one", "MODIFIED   one", "ADDED      three", "MODIFIED   three", "DELETED    two", "DELETED    three"} {
		if _, err := watch.awaitOutput(watch.stdout, line); err != nil {
			t.Error(err)
		}
	}
	_, out, errOut := run(t, command{name: "kubectl", args: []string{"version"}, env: []string{"KUBECONFIG=" + e.kubeconfig}})
	expect(t, "version", out, "Client Version: "+version.Kubernetes, "Server Version: "+version.GitVersion)
	if errOut != "" {
		t.Errorf("kubectl version complains: %s", errOut)
	}
}

// TestPlainUser shows that authorization comes first, and that the extension server's own refusal
// passes.
func TestPlainUser(t *testing.T) {
	t.Parallel()
	e := shared(t)
	ns := e.namespace(t, "plain-user")
	kubeconfig := filepath.Join(t.TempDir(), "alice.kubeconfig")
	if err := writeKubeconfig(kubeconfig, e.user(t, "alice", "guests")); err != nil {
		t.Fatal(err)
	}
	alice := func(args ...string) (string, error) {
		t.Helper()
		return tryKubectl(t, kubeconfig, "", append(args, "--namespace="+ns)...)
	}
	if out, err := alice("auth", "can-i", "list", "flunders.wardle.example.com"); err == nil || !strings.HasPrefix(out, "no") {
		t.Errorf("auth can-i says %q, %v; want no", out, err)
	}
	_, err := alice("get", "flunders")
	if err == nil || !strings.Contains(err.Error(), `User "alice" cannot list resource "flunders" in API group "wardle.example.com"`) {
		t.Errorf("a user without rights got %v, want Forbidden", err)
	}

	e.kubectl(t, "create", "role", "flunders", "--verb=get,list,create", "--resource=flunders.wardle.example.com", "--namespace="+ns)
	e.kubectl(t, "create", "rolebinding", "flunders", "--role=flunders", "--group=guests", "--namespace="+ns)
	eventually(t, "a right through a group", func(context.Context) error {
		out, err := alice("auth", "can-i", "create", "flunders.wardle.example.com")
		if err == nil && !strings.HasPrefix(out, "yes") {
			err = errors.New(out)
		}
		return err
	})
	// sample-apiserver asks the server here whether the user that the proxy names may do this.
	eventually(t, "a list through the extension server's own authorization", func(context.Context) error {
		_, err := alice("get", "flunders")
		return err
	})

	kubectl(t, e.kubeconfig, "apiVersion: wardle.example.com/v1alpha1\nkind: Fischer\nmetadata:\n  name: plain-user\ndisallowedFlunders: [banned]\n", "create")
	eventually(t, "the extension server's own refusal", func(context.Context) error {
		_, err := tryKubectl(t, kubeconfig, flunder("banned", "x"), "create", "--dry-run=server", "--namespace="+ns)
		if err == nil {
			return errors.New("it was not refused")
		}
		if !strings.Contains(err.Error(), "this name may not be used") || !strings.Contains(err.Error(), "Forbidden") {
			t.Fatalf("the extension server's refusal reads: %v", err)
		}
		return nil
	})
}
