package scaffold

import (
	"bytes"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"sigs.k8s.io/yaml"
)

func render(t *testing.T, p Project, written fs.FS) []File {
	t.Helper()
	set, err := Templates(p.Scaffold)
	if err != nil {
		t.Fatal(err)
	}
	files, err := Render(p, set, written)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func find(t *testing.T, files []File, path string) string {
	t.Helper()
	for _, f := range files {
		if f.Path == path {
			return string(f.Data)
		}
	}
	t.Fatalf("there is no %s", path)
	return ""
}

func TestTheSameAnswersGiveTheSameFiles(t *testing.T) {
	p := sample("Widget", "Policy")
	a, b := render(t, p, nil), render(t, p.clone(), nil)
	if !slices.EqualFunc(a, b, func(x, y File) bool { return x.Path == y.Path && bytes.Equal(x.Data, y.Data) }) {
		t.Error("two renderings differ")
	}
	for _, f := range a {
		if strings.Contains(string(f.Data), "<no value>") || strings.Contains(string(f.Data), "{{.") {
			t.Errorf("%s has a rest of a template", f.Path)
		}
	}
}

// TestTheRecordIsTheAnswers reads what a project says it was made from.
func TestTheRecordIsTheAnswers(t *testing.T) {
	p := sample("Widget")
	p.Kinds[0].Actions = []string{"restart"}
	folder := t.TempDir()
	if err := WriteProject(folder, render(t, p, nil)); err != nil {
		t.Fatal(err)
	}
	got, err := Read(os.DirFS(folder))
	if err != nil {
		t.Fatal(err)
	}
	a, _ := yaml.Marshal(p)
	b, _ := yaml.Marshal(got)
	if !bytes.Equal(a, b) {
		t.Errorf("it says\n%s\nand not\n%s", b, a)
	}
}

// TestLinesByHand counts what one has to understand of the first kind beside its type:
// lines that are neither empty nor comments nor imports.
func TestLinesByHand(t *testing.T) {
	const most = 60
	files := render(t, sample(), nil)
	lines := 0
	for _, name := range []string{"main.go", "schema.go", "widget.go", "widget_controller.go"} {
		importing := false
		for line := range strings.Lines(find(t, files, name)) {
			line = strings.TrimSpace(line)
			switch {
			case line == "import (":
				importing = true
			case importing:
				importing = line != ")"
			case line != "" && !strings.HasPrefix(line, "//") && !strings.HasPrefix(line, "package ") && !strings.HasPrefix(line, "import "):
				lines++
			}
		}
	}
	if lines > most {
		t.Errorf("%d lines, and %d at most are promised", lines, most)
	}
}

// TestVersionsAreOurs compares what projects require with what Annex is built with.
func TestVersionsAreOurs(t *testing.T) {
	files := render(t, sample(), nil)
	for project, ours := range map[string]string{"go.mod": "../../go.mod", "tools/go.mod": "../../tools/go.mod"} {
		own, err := os.ReadFile(ours)
		if err != nil {
			t.Fatal(err)
		}
		text := find(t, files, project)
		found := regexp.MustCompile(`(?m)^(?:require)?\s+(\S+/\S+) (v\S+)`).FindAllStringSubmatch(text, -1)
		if len(found) == 0 {
			t.Errorf("%s requires nothing", project)
		}
		for _, m := range found {
			if m[1] != Module && !strings.Contains(string(own), m[1]+" "+m[2]+"\n") && !strings.Contains(string(own), m[1]+" "+m[2]+" //") {
				t.Errorf("%s requires %s %s, and %s does not", project, m[1], m[2], ours)
			}
		}
		line := regexp.MustCompile(`(?m)^go .*$`)
		if a, b := line.FindString(text), line.FindString(string(own)); a != b {
			t.Errorf("%s says %q, and ours %q", project, a, b)
		}
	}
}

// TestReleasesAreNotReplaced and checkouts are.
func TestReleasesAreNotReplaced(t *testing.T) {
	p := sample()
	if text := find(t, render(t, p, nil), "go.mod"); strings.Contains(text, "replace") {
		t.Errorf("go.mod of a release replaces something:\n%s", text)
	}
	p.Annex = Annex{Version: "v0.0.0", Checkout: "/src/annex"}
	files := render(t, p, nil)
	if text := find(t, files, "go.mod"); !strings.Contains(text, "replace github.com/annex-api/annex => /src/annex\n") {
		t.Errorf("go.mod of a checkout does not replace it:\n%s", text)
	}
	if text := find(t, files, "README.md"); !strings.Contains(text, "`replace`") {
		t.Error("the README does not say so")
	}
}

// TestManifestsAreWhatKubernetesTakes decodes them strictly, and looks at what a server
// must not be without.
func TestManifestsAreWhatKubernetesTakes(t *testing.T) {
	objects := manifests(t, render(t, sample("Widget", "Policy"), nil))
	kinds := map[string]int{}
	for _, o := range objects {
		kinds[o.GetObjectKind().GroupVersionKind().Kind]++
	}
	for _, kind := range []string{"Namespace", "ServiceAccount", "Service", "Deployment", "PodDisruptionBudget", "NetworkPolicy", "APIService", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"} {
		if kinds[kind] == 0 {
			t.Errorf("there is no %s", kind)
		}
	}
	for _, o := range objects {
		d, ok := o.(*appsv1.Deployment)
		if !ok {
			continue
		}
		pod, container := d.Spec.Template.Spec, d.Spec.Template.Spec.Containers[0]
		switch {
		case *d.Spec.Replicas != 2:
			t.Errorf("%d replicas", *d.Spec.Replicas)
		case !*pod.SecurityContext.RunAsNonRoot || pod.SecurityContext.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault:
			t.Errorf("the Pod is not confined: %+v", pod.SecurityContext)
		case *container.SecurityContext.AllowPrivilegeEscalation || !*container.SecurityContext.ReadOnlyRootFilesystem || container.SecurityContext.Capabilities.Drop[0] != "ALL":
			t.Errorf("the container is not confined: %+v", container.SecurityContext)
		}
	}
}

// manifests decodes all objects of config/.
func manifests(t *testing.T, files []File) []runtime.Object {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, apiregistrationv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	var objects []runtime.Object
	for _, f := range files {
		if path.Dir(f.Path) != "config" || path.Base(f.Path) == "kustomization.yaml" {
			continue
		}
		for text := range strings.SplitSeq(string(f.Data), "\n---\n") {
			object, _, err := decoder.Decode([]byte(text), nil, nil)
			if err != nil {
				t.Errorf("%s: %v", f.Path, err)
				continue
			}
			objects = append(objects, object)
		}
	}
	return objects
}

// TestKustomizationNamesFilesThatAreThere and all but those that are for special cases.
func TestKustomizationNamesFilesThatAreThere(t *testing.T) {
	files := render(t, sample(), nil)
	var k struct{ Resources []string }
	if err := yaml.Unmarshal([]byte(find(t, files, "config/kustomization.yaml")), &k); err != nil {
		t.Fatal(err)
	}
	want := []string{"kustomization.yaml", "apiservice.yaml"}
	for _, name := range k.Resources {
		find(t, files, "config/"+name)
		want = append(want, name)
	}
	for _, f := range files {
		if path.Dir(f.Path) == "config" && !slices.Contains(want, path.Base(f.Path)) {
			t.Errorf("%s is not used", f.Path)
		}
	}
}

// TestNamesThatYAMLWouldReadOtherwise are quoted as controller-gen quotes them.
func TestNamesThatYAMLWouldReadOtherwise(t *testing.T) {
	files := render(t, sample("Null", "True"), nil)
	for name, want := range map[string]string{"nulls": "Null", "trues": "True"} {
		var crd apiextensionsv1.CustomResourceDefinition
		if err := yaml.UnmarshalStrict([]byte(find(t, files, "crd/widgets.example.com_"+name+".yaml")), &crd); err != nil {
			t.Fatal(err)
		}
		if crd.Spec.Names.Kind != want || crd.Spec.Names.Singular != strings.ToLower(want) {
			t.Errorf("the names are %+v", crd.Spec.Names)
		}
	}
}
