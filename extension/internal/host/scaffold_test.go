package host_test

import (
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/annex-api/annex/extension/internal/host"
	"github.com/annex-api/annex/internal/scaffold"
)

// TestProjectsHaveTheRights compares the manifests of a new project with the one list.
func TestProjectsHaveTheRights(t *testing.T) {
	rights := host.Server{
		APIServices: []string{"v1.widgets.example.com"}, Owner: "widgets", Events: true,
		Secret: types.NamespacedName{Namespace: "widgets", Name: "widgets-serving"},
		Lease:  types.NamespacedName{Namespace: "widgets", Name: "widgets"},
	}.Rights()
	want := host.ManifestOf(rights)
	var got host.Manifest
	for _, document := range rbacOf(t) {
		var o struct {
			Kind     string
			Metadata struct{ Name, Namespace string }
			Rules    []rbacv1.PolicyRule
			RoleRef  rbacv1.RoleRef
		}
		if err := yaml.Unmarshal([]byte(document), &o); err != nil {
			t.Fatal(err)
		}
		switch o.Kind {
		case "ClusterRole":
			got.ClusterRole = o.Rules
		case "Role":
			got.Role = o.Rules
		case "ClusterRoleBinding", "RoleBinding":
			if o.RoleRef.Name != "widgets" {
				got.Bind = append(got.Bind, host.Role{Namespace: o.Metadata.Namespace, Name: o.RoleRef.Name})
			}
		}
	}
	compare := func(what string, got, want []string) {
		t.Helper()
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s: the project has\n%s\nand the list\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	compare("ClusterRole", single(got.ClusterRole), single(want.ClusterRole))
	compare("Role", single(got.Role), single(want.Role))
	var gotRoles, wantRoles []string
	for _, r := range got.Bind {
		gotRoles = append(gotRoles, r.Namespace+"/"+r.Name)
	}
	for _, r := range want.Bind {
		wantRoles = append(wantRoles, r.Namespace+"/"+r.Name)
	}
	compare("roles that are bound", gotRoles, wantRoles)
}

// rbacOf are the documents of the manifest with the server's rights.
func rbacOf(t *testing.T) []string {
	t.Helper()
	set, err := scaffold.Templates(scaffold.Current)
	if err != nil {
		t.Fatal(err)
	}
	project := scaffold.New("widgets", "", "", "widgets.example.com", scaffold.Annex{Version: "v0.0.0"})
	project.Kinds = append(project.Kinds, scaffold.NewKind("Widget", "", "v1", true, true))
	files, err := scaffold.Render(project, set, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if f.Path == "config/rbac.yaml" {
			return strings.Split(string(f.Data), "\n---\n")
		}
	}
	t.Fatal("there is no config/rbac.yaml")
	return nil
}

// single says what rules allow, one verb on one thing a line, each once.
func single(rules []rbacv1.PolicyRule) []string {
	var all []string
	for _, r := range rules {
		names := r.ResourceNames
		if len(names) == 0 {
			names = []string{""}
		}
		for _, group := range r.APIGroups {
			for _, resource := range r.Resources {
				for _, name := range names {
					for _, verb := range r.Verbs {
						line := strings.Join([]string{verb, group, resource, name}, " ")
						if !slices.Contains(all, line) {
							all = append(all, line)
						}
					}
				}
			}
		}
	}
	return all
}
