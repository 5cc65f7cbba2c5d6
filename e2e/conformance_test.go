package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"github.com/annex-api/annex/extension/extensiontest/conformance"
)

// longChecks take minutes.
var longChecks = []string{"watch/initial-events-once", "watch/slow-reader", "requests/slow-body"}

// conforms runs the kit and fails unless the failed checks, and those that do not apply, are known.
func conforms(t *testing.T, target conformance.Target, failed, notApplicable []string) {
	t.Helper()
	s := conformance.Run(t.Context(), target, conformance.Table(t.Output()))
	if s.Err != nil {
		t.Fatal(s.Err)
	}
	for _, left := range s.Left {
		t.Errorf("left behind: %s", left)
	}
	if got := idsOf(s, conformance.Failed); !slices.Equal(got, failed) {
		t.Errorf("failed: %v, want %v", got, failed)
	}
	if got := idsOf(s, conformance.NotApplicable); !slices.Equal(got, notApplicable) {
		t.Errorf("not applicable: %v, want %v", got, notApplicable)
	}
}

func idsOf(s conformance.Summary, o conformance.Outcome) []string {
	var ids []string
	for _, r := range s.Results {
		if r.Outcome == o {
			ids = append(ids, r.Check.ID)
		}
	}
	return ids
}

// startAllControllers runs those that look after namespaces and what is in each.
func startAllControllers(t *testing.T, c *cluster) {
	t.Helper()
	start(t, controllerManager, "--kubeconfig="+c.kubeconfig, "--secure-port=0", "--leader-elect=false",
		"--controllers=namespace-controller,garbage-collector-controller,serviceaccount-controller", "--kube-api-qps=200", "--kube-api-burst=400")
	eventually(t, "no controller makes service accounts", func(ctx context.Context) error {
		_, err := c.kube.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Get(ctx, "default", metav1.GetOptions{})
		return err
	})
}

// outside are the checks of an extension server, and of what is behind it.
var outside = []string{
	"authz/anonymous", "ready/endpoint", "stream/long", "tls/registration", "tls/sans", "tls/bundle-restored", "storage/down",
}

// TestConformanceOfABuiltInResource: kube-apiserver's ConfigMaps pass all that applies to them.
func TestConformanceOfABuiltInResource(t *testing.T) {
	longForm(t)
	c := startUp(t, shortTemp(t))
	startAllControllers(t, c)
	conforms(t, conformance.Target{
		Config: c.admin, Second: c.user(t, "nobody"), Skip: longChecks,
		Resource: schema.GroupVersionResource{Version: "v1", Resource: "configmaps"},
	}, nil, slices.Concat([]string{
		"watch/expired", "watch/error-event", // the server is young and remembers everything
		"generation/spec", "generation/labels", "generation/status", "status/isolated", "scale/get-put",
		"apply/other-version", "versions/round-trip", "versions/hub-only-field",
	}, outside))
}

const gadgets = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: gadgets.kit.example.com}
spec:
  group: kit.example.com
  scope: Namespaced
  names: {plural: gadgets, singular: gadget, kind: Gadget, listKind: GadgetList, shortNames: [gd], categories: [all]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}, scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas}}
    selectableFields: [{jsonPath: .spec.color}]
    additionalPrinterColumns: [{name: Color, type: string, jsonPath: .spec.color}]
    schema: &schema
      openAPIV3Schema:
        type: object
        description: Gadget is a thing.
        properties:
          spec:
            type: object
            description: Spec is what is wanted.
            required: [color]
            properties:
              color: {type: string, description: Color of it., maxLength: 30}
              replicas: {type: integer, description: Replicas are how many., minimum: 0}
              mode: {type: string, description: Mode of it., enum: ["on", "off"]}
          status:
            type: object
            description: Status is what is.
            properties:
              phase: {type: string, description: Phase of it.}
              replicas: {type: integer, description: Replicas are how many there are.}
  - name: v1beta1
    served: true
    storage: false
    subresources: {status: {}, scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas}}
    selectableFields: [{jsonPath: .spec.color}]
    schema: *schema
`

// TestConformanceOfACustomResource: two versions, status, scale and selectable fields pass all that
// applies to them.
func TestConformanceOfACustomResource(t *testing.T) {
	longForm(t)
	c := startUp(t, shortTemp(t))
	startAllControllers(t, c)
	definition := map[string]any{}
	if err := yaml.Unmarshal([]byte(gadgets), &definition); err != nil {
		t.Fatal(err)
	}
	definitions := c.dynamic.Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"})
	if _, err := definitions.Create(t.Context(), &unstructured.Unstructured{Object: definition}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{"v1", "v1beta1"} {
		resource := schema.GroupVersionResource{Group: "kit.example.com", Version: version, Resource: "gadgets"}
		eventually(t, "OpenAPI does not describe "+resource.String(), func(ctx context.Context) error {
			_, err := c.kube.Discovery().RESTClient().Get().AbsPath("/openapi/v3/apis/kit.example.com/" + version).DoRaw(ctx)
			return err
		})
		t.Run(version, func(t *testing.T) {
			conforms(t, conformance.Target{Config: c.admin, Second: c.user(t, "nobody"), Resource: resource, Skip: longChecks}, nil, outside)
		})
	}
}

// TestConformanceCommand checks the demo extension server by the command, with each output.
func TestConformanceCommand(t *testing.T) {
	longForm(t)
	c := startUp(t, shortTemp(t), "--demo")
	kit := func(args ...string) (code int, out, errOut string) {
		return run(t, command{name: "annex", args: append([]string{"conformance", "--kubeconfig=" + c.kubeconfig}, args...)})
	}
	code, out, errOut := kit("--apiservice=v1.demo.annex.dev")
	if code != 0 || !strings.Contains(out, " 0 failed, ") {
		t.Errorf("exit code %d: %s%s", code, out, errOut)
	}
	code, out, errOut = kit("--resource=notices.v1.demo.annex.dev", "--plan")
	if code != 0 || !strings.Contains(out, "Namespace annex-conformance-") {
		t.Errorf("--plan: exit code %d: %s%s", code, out, errOut)
	}
	code, out, errOut = kit("--resource=notices.v1.demo.annex.dev", "--only=list/*,get/*", "-o=junit")
	if code != 0 || !strings.Contains(out, `<testcase classname="conformance.get" name="not-found"`) {
		t.Errorf("-o junit: exit code %d: %s%s", code, out, errOut)
	}
	code, out, errOut = kit("--resource=notices.v1.demo.annex.dev", "--only=scale/*")
	if code != 2 || !strings.Contains(errOut, "nothing could be checked") {
		t.Errorf("a check that does not apply: exit code %d: %s%s", code, out, errOut)
	}
	c.hasNoKitNamespaces(t)
}

// flundersFail are the checks that sample-apiserver's Flunders do not pass, and why.
var flundersFail = []string{
	"openapi/comments", // its types have no comments
	"media/protobuf",   // they have no protobuf, and it does not fall back to JSON
}

// TestConformanceOfSampleAPIServer: what a server made by others does not keep is explained.
func TestConformanceOfSampleAPIServer(t *testing.T) {
	longForm(t)
	c := shared(t)
	code, out, errOut := run(t, command{name: "annex", args: []string{"conformance", "--kubeconfig=" + c.kubeconfig, "--resource=flunders.v1alpha1." + wardleGroup, "-o=json"}})
	if want := fmt.Sprintf("annex: %d of", len(flundersFail)); code != 1 || !strings.Contains(errOut, want) {
		t.Errorf("exit code %d, want 1 and %q in: %s", code, want, errOut)
	}
	var report struct {
		Runs []struct {
			Left    []string
			Results []struct {
				ID, Outcome, Promise, Source string
				Failures                     []conformance.Failure
			}
		}
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil || len(report.Runs) != 1 {
		t.Fatalf("the report has %d runs, want 1: %v", len(report.Runs), err)
	}
	var failed []string
	for _, r := range report.Runs[0].Results {
		if r.Outcome != "failed" {
			continue
		}
		failed = append(failed, r.ID)
		if r.Promise == "" || r.Source == "" || len(r.Failures) == 0 || r.Failures[0].Exchange == nil {
			t.Errorf("%s failed and is not explained: %+v", r.ID, r)
		}
	}
	if !slices.Equal(failed, flundersFail) {
		t.Errorf("failed: %v, want %v", failed, flundersFail)
	}
	if len(report.Runs[0].Left) > 0 {
		t.Errorf("left behind: %v", report.Runs[0].Left)
	}
}

// TestConformanceCommandStops: Ctrl-C removes what the command has made.
func TestConformanceCommandStops(t *testing.T) {
	longForm(t)
	c := startUp(t, shortTemp(t))
	p := start(t, "annex", "conformance", "--kubeconfig="+c.kubeconfig, "--resource=configmaps.v1")
	if _, err := p.awaitOutput(p.stdout, "list/too-large"); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGINT)
	if code := p.exitCode(t); code == 0 || !strings.Contains(p.stdout.String(), "stopped after") {
		t.Errorf("exit code %d: %s%s", code, p.stdout, p.stderr)
	}
	c.hasNoKitNamespaces(t)
}

func (c *cluster) hasNoKitNamespaces(t *testing.T) {
	t.Helper()
	list, err := c.kube.CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{LabelSelector: "annex-conformance"})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range list.Items {
		t.Errorf("namespace %s is left", n.Name)
	}
}

// TestConformanceOfTheStorage: with its etcd stopped the server answers no list as empty, and comes
// back.
func TestConformanceOfTheStorage(t *testing.T) {
	longForm(t)
	dir := shortTemp(t)
	etcd := func() *process {
		return start(t, "etcd", "--data-dir="+filepath.Join(dir, "etcd-data"), "--listen-client-urls=unix://"+filepath.Join(dir, "etcd"), "--advertise-client-urls=unix://"+filepath.Join(dir, "etcd"), "--listen-peer-urls=unix://"+filepath.Join(dir, "peer"))
	}
	running := etcd()
	c := startUp(t, filepath.Join(dir, "data"), "--", "--etcd-servers=unix://"+filepath.Join(dir, "etcd"))
	conforms(t, conformance.Target{
		Config: c.admin, Resource: schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}, Only: []string{"storage/*"},
		Storage: conformance.Storage{
			Stop:  func(context.Context) error { running.end(); return nil },
			Start: func(context.Context) error { running = etcd(); return nil },
		},
	}, nil, nil)
}

// longForm leaves a test out of the short form, which is run with the race detector: what it is about
// runs in processes of its own, which that does not look into.
func longForm(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("it starts processes that the race detector does not look into, and takes half a minute")
	}
}
