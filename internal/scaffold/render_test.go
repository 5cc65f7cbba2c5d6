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
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
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

// ofProjects are modules that projects require and Annex does not.
var ofProjects = []string{"golang.org/x/crypto/x509roots/fallback"}

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
			if m[1] != Module && !slices.Contains(ofProjects, m[1]) && !strings.Contains(string(own), m[1]+" "+m[2]+"\n") && !strings.Contains(string(own), m[1]+" "+m[2]+" //") {
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

// TestConformanceIsAskedForAllThatAKindHas: only what it does not have need not apply.
func TestConformanceIsAskedForAllThatAKindHas(t *testing.T) {
	p := sample("Widget", "Policy")
	p.Kinds[1].Versions = append(p.Kinds[1].Versions, "v1")
	p.Kinds[1].Scale = true
	text := find(t, render(t, p, nil), "conformance_test.go")
	for _, want := range []string{
		`{Group: "widgets.example.com", Version: "v1alpha1", Resource: "widgets"}:  {"status/isolated", "generation/status", "scale/*", "versions/*", "apply/other-version"},`,
		`{Group: "widgets.example.com", Version: "v1alpha1", Resource: "policies"}: {"status/isolated", "generation/status"},`,
		`{Group: "widgets.example.com", Version: "v1", Resource: "policies"}:       {"status/isolated", "generation/status"},`,
		"notApplicable...)",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("it does not say %s:\n%s", want, text)
		}
	}
}

// TestControllersOfTheirOwn: with the component, the controllers are a Deployment of their
// own that may do what they do, and the server has none.
func TestControllersOfTheirOwn(t *testing.T) {
	files := filesys.MakeFsInMemory()
	for _, f := range render(t, sample(), nil) {
		content := strings.Replace(string(f.Data), "# components:\n# - controllers", "components:\n- controllers", 1)
		if err := files.WriteFile(f.Path, []byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	made, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(files, "config")
	if err != nil {
		t.Fatal(err)
	}
	text, err := made.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	run := map[string]corev1.PodTemplateSpec{}
	var service *corev1.Service
	for _, o := range manifests(t, []File{{Path: "config/all.yaml", Data: text}}) {
		switch o := o.(type) {
		case *appsv1.Deployment:
			run[o.Name] = o.Spec.Template
		case *corev1.Service:
			service = o
		}
	}
	server, controllers := run["widgets"], run["widgets-controllers"]
	if len(run) != 2 || !slices.Contains(server.Spec.Containers[0].Args, "--without-controllers") {
		t.Fatalf("%d Deployments; the server has the arguments %q", len(run), server.Spec.Containers[0].Args)
	}
	if pod := controllers.Spec; !slices.Contains(pod.Containers[0].Args, "--controllers-only") || pod.ServiceAccountName == server.Spec.ServiceAccountName {
		t.Errorf("the controllers are %+v", pod)
	}
	if selector := labels.SelectorFromSet(service.Spec.Selector); selector.Matches(labels.Set(controllers.Labels)) || !selector.Matches(labels.Set(server.Labels)) {
		t.Errorf("the Service leads to %v, which are also the controllers' %v", service.Spec.Selector, controllers.Labels)
	}
	if strings.Contains(find(t, render(t, sample(), nil), "config/kustomization.yaml"), "\ncomponents:") {
		t.Error("the component is used unasked")
	}
}

// TestDeletingTheManifestsLeavesTheNamespace, which has the Secret of the storage, and may
// have what others put there.
func TestDeletingTheManifestsLeavesTheNamespace(t *testing.T) {
	var k struct{ Resources []string }
	if err := yaml.Unmarshal([]byte(find(t, render(t, sample(), nil), "config/kustomization.yaml")), &k); err != nil {
		t.Fatal(err)
	}
	if slices.Contains(k.Resources, "namespace.yaml") {
		t.Errorf("make undeploy would remove the namespace: %q", k.Resources)
	}
}

// TestEgressIsNotBounded: admission webhooks, names and hosts listen on ports that nobody knows.
func TestEgressIsNotBounded(t *testing.T) {
	for _, o := range manifests(t, render(t, sample(), nil)) {
		if n, ok := o.(*networkingv1.NetworkPolicy); ok {
			if !slices.Equal(n.Spec.PolicyTypes, []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}) || len(n.Spec.Egress) > 0 {
				t.Errorf("the policy is of types %v, with egress %v", n.Spec.PolicyTypes, n.Spec.Egress)
			}
			return
		}
	}
	t.Error("there is no NetworkPolicy")
}

// TestTheStorageIsInAFile and not among the arguments, which all who see the process see.
func TestTheStorageIsInAFile(t *testing.T) {
	for _, o := range manifests(t, render(t, sample(), nil)) {
		d, ok := o.(*appsv1.Deployment)
		if !ok || d.Name != "widgets" {
			continue
		}
		pod := d.Spec.Template.Spec
		c := pod.Containers[0]
		if !slices.Contains(c.Args, "--storage-file=/etc/storage/url") || len(c.Env) > 0 {
			t.Errorf("arguments %q, environment %v", c.Args, c.Env)
		}
		mounted := slices.ContainsFunc(pod.Volumes, func(v corev1.Volume) bool {
			return v.Name == "storage" && v.Secret != nil && v.Secret.SecretName == "widgets-storage"
		})
		if !mounted || !slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == "storage" && m.MountPath == "/etc/storage" }) {
			t.Errorf("the Secret is not there: %v, %v", pod.Volumes, c.VolumeMounts)
		}
		return
	}
	t.Error("there is no Deployment")
}

// TestWhatRolesMayDo asks Kubernetes' own rules for roles that are extended by ours.
func TestWhatRolesMayDo(t *testing.T) {
	p := sample("Widget", "Policy")
	p.Kinds[0].Actions, p.Kinds[1].Scale = []string{"restart"}, true
	rules := map[string][]rbacv1.PolicyRule{}
	for _, o := range manifests(t, render(t, p, nil)) {
		if r, ok := o.(*rbacv1.ClusterRole); ok {
			for _, role := range []string{"view", "edit"} {
				if r.Labels["rbac.authorization.k8s.io/aggregate-to-"+role] == "true" {
					rules[role] = append(rules[role], r.Rules...)
				}
			}
		}
	}
	may := func(role, verb, resource string) bool {
		return slices.ContainsFunc(rules[role], func(r rbacv1.PolicyRule) bool {
			return slices.Contains(r.Verbs, verb) && slices.ContainsFunc(r.Resources, func(have string) bool { return have == "*" || have == resource })
		})
	}
	for _, test := range []struct {
		role, verb, resource string
		want                 bool
	}{
		{"view", "get", "widgets", true},
		{"view", "watch", "policies", true},
		{"view", "get", "widgets/status", true},
		{"view", "get", "policies/scale", true},
		{"view", "get", "widgets/console", false}, // to get a stream is to open it
		{"view", "create", "widgets/restart", false},
		{"edit", "create", "widgets", true},
		{"edit", "create", "widgets/restart", true},
		{"edit", "create", "policies/restart", false},
		{"edit", "update", "policies/scale", true},
		{"edit", "update", "widgets/status", false},
		{"edit", "get", "widgets/console", false},
	} {
		if got := may(test.role, test.verb, test.resource); got != test.want {
			t.Errorf("%s may %s %s: %v, want %v", test.role, test.verb, test.resource, got, test.want)
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
		if !strings.HasPrefix(f.Path, "config/") || path.Base(f.Path) == "kustomization.yaml" {
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

// TestControllersFitTheTypes: who replaced the sample fields gets a controller without them.
func TestControllersFitTheTypes(t *testing.T) {
	for name, edits := range map[string]struct {
		before, after string
		sample        bool
	}{
		"the first day":        {"Message string", "Message string", true},
		"another field beside": {"	Message string", "	Size int `json:\"size\"`\n\n	Message string", true},
		"the field replaced":   {"	Message string `json:\"message,omitempty\"`", "	Size int `json:\"size\"`", false},
		"another type":         {"Message string", "Message *string", false},
		"no conditions":        {"Conditions []metav1.Condition `json:\"conditions,omitempty\"`", "Ready bool `json:\"ready,omitempty\"`", false},
	} {
		t.Run(name, func(t *testing.T) {
			p := sample()
			p.Kinds[0].Controller = false
			folder := written(t, p)
			edit(t, folder, "api/v1alpha1/widget_types.go", edits.before, edits.after)
			extend(t, folder, AddController("Widget"))
			got := read(t, folder, "widget_controller.go") + read(t, folder, "widget_controller_test.go")
			if strings.Contains(got, "Spec.Message") != edits.sample || strings.Contains(got, "Conditions") != edits.sample || strings.Contains(got, "BecomesReady") != edits.sample {
				t.Errorf("it is made for the sample fields: %v\n%s", !edits.sample, got)
			}
		})
	}
}

// TestKustomizationNamesFilesThatAreThere and all but those that are for special cases.
func TestKustomizationNamesFilesThatAreThere(t *testing.T) {
	files := render(t, sample(), nil)
	var k struct{ Resources []string }
	if err := yaml.Unmarshal([]byte(find(t, files, "config/kustomization.yaml")), &k); err != nil {
		t.Fatal(err)
	}
	want := []string{"kustomization.yaml", "apiservice.yaml", "namespace.yaml"}
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
	p := sample()
	p.Name, p.Namespace, p.Group, p.Kinds[0].Plural = "on", "off", "1.e3", "null"
	for _, o := range manifests(t, render(t, p, nil)) {
		accessor, err := meta.Accessor(o)
		if err != nil || accessor.GetName() == "" {
			t.Errorf("%T has the name %q: %v", o, accessor.GetName(), err)
		}
	}
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
