package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// kubectlOfExample does what people do.
func kubectlOfExample(t *testing.T, s *served) {
	resource := strings.Join([]string{s.resource.Resource, s.resource.Version, s.resource.Group}, ".")
	k := func(args ...string) string {
		t.Helper()
		return s.kubectl(t, append(args, "--namespace="+s.namespace)...)
	}
	in := func(input string, args ...string) string {
		t.Helper()
		return kubectl(t, s.kubeconfig, input, args...)
	}
	expect(t, "api-resources", k("api-resources", "--api-group="+s.resource.Group), s.resource.Resource, s.kind, s.resource.GroupVersion().String()+" ")
	explain := []string{"explain", s.resource.Resource + "." + s.explained, "--api-version=" + s.resource.GroupVersion().String()}
	eventually(t, "kubectl explain", func(context.Context) error {
		_, err := tryKubectl(t, s.kubeconfig, "", explain...)
		return err
	})
	expect(t, "explain", k(explain...), s.kind, s.explanation)

	watch := startCommand(t, command{
		name: "kubectl", args: []string{"get", resource, "--watch", "--output-watch-events", "--no-headers", "--namespace=" + s.namespace},
		env: []string{"KUBECONFIG=" + s.kubeconfig},
	})
	watches := func(lines ...string) {
		t.Helper()
		for _, line := range lines {
			if _, err := watch.awaitOutput(watch.stdout, line); err != nil {
				t.Error(err)
			}
		}
	}
	name := "kubectl"
	if s.readOnly {
		name = "cpu0"
	} else {
		expect(t, "apply", in(s.manifest(t, name, "kubectl"), "apply"), name+" created")
		expect(t, "apply again", in(s.manifest(t, name, "kubectl"), "apply"), name+" unchanged")
		expect(t, "server-side apply", in(s.manifest(t, "kubectl-ssa", "kubectl"), "apply", "--server-side", "--field-manager=e2e"), "kubectl-ssa serverside-applied")
		expect(t, "patch", k("patch", resource, name, "--type=merge", "--patch="+s.patch), name+" patched")
		expect(t, "selectors", k("get", resource, "--selector=made-by=kubectl", "--field-selector=metadata.name="+name, "--output=name"), "/"+name)
	}
	hasColumns(t, k("get", resource), s.columns...)
	wide := s.wide
	if wide == nil {
		wide = s.columns
	}
	hasColumns(t, k("get", resource, "--output=wide"), wide...)
	expect(t, "get as YAML", k("get", resource, name, "--output=yaml"), "kind: "+s.kind, "name: "+name, s.patched)
	expect(t, "get as JSON", k("get", resource, name, "--output=json"), fmt.Sprintf("%q: %q", "kind", s.kind))
	expect(t, "describe", k("describe", resource, name), "Name:         "+name, "Kind:         "+s.kind)
	if s.scale {
		expect(t, "scale", k("scale", resource, name, "--replicas=7"), name+" scaled")
		expect(t, "what scale wrote", k("get", resource, name, "--output=jsonpath={.spec.replicas}"), "7")
	}
	if s.readOnly {
		_, err := tryKubectl(t, s.kubeconfig, "", "delete", resource, name)
		if err == nil || !strings.Contains(err.Error(), "MethodNotAllowed") {
			t.Errorf("delete of what is computed: %v, want that there is no such method", err)
		}
		watches("ADDED      "+name, "MODIFIED   "+name)
		return
	}
	expect(t, "delete", k("delete", resource, "--selector=made-by=kubectl"), `"kubectl" deleted`, `"kubectl-ssa" deleted`)
	watches("ADDED      kubectl ", "ADDED      kubectl-ssa ", "MODIFIED   kubectl ", "DELETED    kubectl ", "DELETED    kubectl-ssa ")
}

// helmOfExample installs a chart with an object of the example. Helm finds the kind by discovery, and refuses
// what OpenAPI does not have. Of what is computed a chart can look up what there is.
func helmOfExample(t *testing.T, s *served) {
	kind := s.resource.GroupVersion().String() + "/" + s.kind
	template := fmt.Sprintf("{{ if not (.Capabilities.APIVersions.Has %q) }}{{ fail %q }}{{ end }}\n", kind, "there is no "+kind)
	namespace := s.namespace
	if s.readOnly {
		namespace = "default"
		template += fmt.Sprintf(`{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "helm-%s"}, "data": {
			"found": {{ len (lookup %q %q "" "").items | quote }}, "round": {{ .Values.round | quote }}
		}}`, s.name, s.resource.GroupVersion(), s.kind)
	} else {
		o := s.object(t, "helm", "helm")
		o.SetAnnotations(map[string]string{"round": "{{ .Values.round }}"})
		text, err := o.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		template += string(text)
	}
	chart := t.TempDir()
	for name, text := range map[string]string{
		"Chart.yaml":            "apiVersion: v2\nname: example\nversion: 1.0.0\n",
		"values.yaml":           "round: one\n",
		"templates/object.yaml": template,
	} {
		path := filepath.Join(chart, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	release := "release-" + s.name
	helm := func(args ...string) string {
		t.Helper()
		code, out, errOut := run(t, command{name: "helm", args: append(args, "--namespace="+namespace, "--kubeconfig="+s.kubeconfig)})
		if code != 0 {
			t.Fatalf("helm %v: exit code %d: %s%s", args, code, out, errOut)
		}
		return out
	}
	round := func() string {
		t.Helper()
		if s.readOnly {
			return s.cluster.kubectl(t, "get", "configmap", "helm-"+s.name, "--namespace="+namespace, "--output=jsonpath={.data.round} {.data.found}")
		}
		o, err := s.objects.Get(t.Context(), "helm", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return o.GetAnnotations()["round"]
	}
	expect(t, "helm install", helm("install", release, chart), "STATUS: deployed")
	if got := round(); !strings.HasPrefix(got, "one") || strings.HasSuffix(got, " 0") {
		t.Errorf("helm installed %q", got)
	}
	expect(t, "helm upgrade", helm("upgrade", release, chart, "--set=round=two"), "REVISION: 2")
	if got := round(); !strings.HasPrefix(got, "two") {
		t.Errorf("helm upgraded to %q", got)
	}
	expect(t, "helm uninstall", helm("uninstall", release), "uninstalled")
	if s.readOnly {
		return
	}
	if left, err := s.objects.Get(t.Context(), "helm", metav1.GetOptions{}); err == nil {
		t.Errorf("helm left %v", left)
	}
}
