package scaffold

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

// maxName leaves room for what is added to a server's name in names of its objects.
const maxName = 40

var (
	versionForm = regexp.MustCompile(`^v[1-9][0-9]{0,2}((alpha|beta)[1-9][0-9]{0,2})?$`)
	kindForm    = regexp.MustCompile(`^[A-Z][A-Za-z0-9]{0,39}$`)
	moduleForm  = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]*\.[a-z]+(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*$`)
	letter      = regexp.MustCompile(`[a-z]`)
)

// metaKinds are in every group version that clients know, or in every version.
var metaKinds = []string{
	"WatchEvent", "ListOptions", "GetOptions", "DeleteOptions", "CreateOptions", "UpdateOptions", "PatchOptions",
	"Status", "APIVersions", "APIGroup", "APIGroupList", "APIResourceList",
}

// Validate says all that is wrong with the answers, and what would be right.
func (p Project) Validate() error {
	var errs []error
	add := func(err error) { errs = append(errs, err) }
	add(CheckName(p.Name))
	add(CheckNamespace(p.Namespace))
	add(CheckGroup(p.Group))
	add(checkModule(p.Module))
	add(checkAnnex(p.Annex))
	if len(p.Kinds) == 0 {
		add(errors.New("there is no kind: name one, such as --kind Widget"))
	}
	for _, k := range p.Kinds {
		add(CheckKind(k.Kind))
		if problems := validation.IsDNS1035Label(k.Plural); len(problems) > 0 {
			add(fmt.Errorf("the plural %q of kind %s is no name: %s", k.Plural, k.Kind, strings.Join(problems, "; ")))
		}
		if len(k.Versions) == 0 {
			add(fmt.Errorf("kind %s has no version", k.Kind))
		}
		for i, v := range k.Versions {
			add(CheckVersion(v))
			if slices.Contains(k.Versions[:i], v) {
				add(fmt.Errorf("kind %s has version %s already", k.Kind, v))
			}
		}
		for i, a := range k.Actions {
			add(CheckAction(a))
			if slices.Contains(k.Actions[:i], a) {
				add(fmt.Errorf("kind %s has the action %s already", k.Kind, a))
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return errors.Join(p.conflicts(), p.cycle())
}

// takenRoles are ClusterRoles of Kubernetes; ours has the name of the server.
var takenRoles = []string{"admin", "cluster-admin", "edit", "view"}

// CheckName says what is wrong with the name of a server.
func CheckName(name string) error {
	problems := validation.IsDNS1035Label(name)
	if slices.Contains(takenRoles, name) {
		return fmt.Errorf("the name %q is that of a ClusterRole of Kubernetes, and the server has one of its name%s", name, wouldBe(name+"-server"))
	}
	if len(problems) == 0 && len(name) <= maxName {
		return nil
	}
	why := fmt.Sprintf("it has more than %d characters", maxName)
	if len(problems) > 0 {
		why = "small letters, digits and dashes are, beginning with a letter"
	}
	return fmt.Errorf("the name %q is no name of a Service: %s%s", name, why, wouldBe(suggestLabel(name)))
}

// CheckNamespace says what is wrong with the namespace of a server.
func CheckNamespace(namespace string) error {
	if problems := validation.IsDNS1123Label(namespace); len(problems) > 0 {
		return fmt.Errorf("the namespace %q is no name: %s%s", namespace, strings.Join(problems, "; "), wouldBe(suggestLabel(namespace)))
	}
	if namespace == "default" || strings.HasPrefix(namespace, "kube-") {
		return fmt.Errorf("the namespace %q is Kubernetes' own, and the server has one for itself: leave out --namespace, or name another one", namespace)
	}
	return nil
}

// CheckGroup says what is wrong with an API group.
func CheckGroup(group string) error {
	switch {
	case group == "":
		return errors.New("the group is missing: a name below a domain of yours, such as --group widgets.example.com")
	case len(validation.IsDNS1123Subdomain(group)) > 0 || !letter.MatchString(group):
		var labels []string
		for label := range strings.SplitSeq(group, ".") {
			if s := suggestLabel(label); s != "" {
				labels = append(labels, s)
			}
		}
		right := ""
		if len(labels) > 1 {
			right = strings.Join(labels, ".")
		} else if len(labels) == 1 {
			right = labels[0] + ".example.com"
		}
		return fmt.Errorf("the group %q is no DNS name: small letters, digits, dashes and dots are%s", group, wouldBe(right))
	case !strings.Contains(group, "."):
		return fmt.Errorf("the group %q has no dot: groups without one are Kubernetes' own%s", group, wouldBe(group+".example.com"))
	case slices.ContainsFunc([]string{"k8s.io", "kubernetes.io"}, func(own string) bool { return group == own || strings.HasSuffix(group, "."+own) }):
		name, _, _ := strings.Cut(group, ".")
		return fmt.Errorf("the group %q is below a domain of Kubernetes%s", group, wouldBe(name+".example.com"))
	}
	return nil
}

// CheckKind says what is wrong with the name of a kind.
func CheckKind(kind string) error {
	if kind == "" {
		return errors.New("the kind is missing: a name such as --kind Widget")
	}
	if !kindForm.MatchString(kind) {
		right := suggestKind(kind)
		return fmt.Errorf("the kind %q is no name: letters and digits are, 40 at most, beginning with a capital%s", kind, wouldBe(right[:min(len(right), 40)]))
	}
	if slices.Contains(metaKinds, kind) {
		return fmt.Errorf("the kind %q is one of Kubernetes' own in every group: choose another name", kind)
	}
	return nil
}

// CheckVersion says what is wrong with a version.
func CheckVersion(version string) error {
	if versionForm.MatchString(version) {
		return nil
	}
	return fmt.Errorf("the version %q is none: v1alpha1, v1beta1, v1, v2 are of the right form", version)
}

// CheckAction says what is wrong with the name of an action.
func CheckAction(action string) error {
	if len(validation.IsDNS1035Label(action)) > 0 || len(action) > maxName {
		return fmt.Errorf("the action %q is no name in a path: small letters, digits and dashes are, beginning with a letter%s", action, wouldBe(suggestLabel(action)))
	}
	if action == "status" || action == "scale" {
		return fmt.Errorf("the action %q has the name of a subresource of Kubernetes", action)
	}
	return nil
}

func checkModule(module string) error {
	if !moduleForm.MatchString(module) {
		return fmt.Errorf("the module %q is no path of a Go module: example.com/widgets is of the right form", module)
	}
	if module == Module || strings.HasPrefix(module, Module+"/") {
		return fmt.Errorf("the module %q is Annex' own: use a path of yours", module)
	}
	return nil
}

func checkAnnex(a Annex) error {
	switch {
	case a.Version == "":
		return errors.New("the version of Annex is missing")
	case a.Checkout != "" && !filepath.IsAbs(a.Checkout):
		return fmt.Errorf("the checkout of Annex %q is no absolute path", a.Checkout)
	case strings.ContainsAny(a.Checkout+a.Version, " \t\r\n\"'`"):
		return fmt.Errorf("the checkout of Annex %q has spaces or quotes in its path: go.mod cannot have them as they are", a.Checkout)
	}
	return nil
}

// conflicts finds two things that would have one name, in Go or on disk.
func (p Project) conflicts() error {
	var errs []error
	owners := map[string]string{}
	take := func(name, owner string) {
		if other, ok := owners[name]; ok && other != owner {
			errs = append(errs, fmt.Errorf("%s and %s would both have the name %s: name one of them otherwise", other, owner, name))
		}
		owners[name] = owner
	}
	for _, file := range []string{"main", "schema", "conformance_test"} {
		take(file+".go", "the file "+file+".go")
	}
	for _, name := range []string{"GroupVersion", "AddToScheme", "TestConformance", "TestConversionsLoseNothing"} {
		take(name, "what every project declares")
	}
	for i, k := range p.Kinds {
		for _, other := range p.Kinds[:i] {
			if strings.EqualFold(other.Kind, k.Kind) {
				errs = append(errs, fmt.Errorf("there is a kind %s already", other.Kind))
			}
		}
		owner := "kind " + k.Kind
		for _, name := range []string{"", "List", "Spec", "Status", "Controller", "Reconciler"} {
			take(k.Kind+name, owner)
		}
		take("Test"+k.Kind+"BecomesReady", owner)
		take("Test"+k.Kind+"ThatIsGone", owner)
		take("validate"+k.Kind, owner)
		take(pluralGo(k.Kind, k.Plural), owner)
		take(k.Plural, owner)
		take(strings.ToLower(k.Kind), owner) // the singular
		take(strings.ToLower(k.Kind)+".go", owner)
		for _, v := range k.Versions[1:] {
			inVersion := owner + " in version " + v
			take(k.Kind+title(v), inVersion)
			take(lowerCamel(k.Kind)+"From"+title(v), inVersion)
			take(lowerCamel(k.Kind)+"To"+title(v), inVersion)
		}
		for _, a := range k.Actions {
			action := "the action " + a + " of " + owner
			for _, name := range []string{
				title(a) + k.Kind, lowerCamel(title(a)) + k.Kind, "Test" + title(a) + k.Kind,
				k.Kind + title(a) + "Request", k.Kind + title(a) + "Response",
			} {
				take(name, action)
			}
		}
	}
	return errors.Join(errs...)
}

// cycle finds versions whose packages would import each other: the types of a version
// that is no hub use types of its hub.
func (p Project) cycle() error {
	type edge struct{ kind, to string }
	imports := map[string][]edge{}
	for _, k := range p.Kinds {
		if k.FromCRD {
			continue // each version has all of its types
		}
		for _, v := range k.Versions[1:] {
			imports[v] = append(imports[v], edge{k.Kind, k.Versions[0]})
		}
	}
	var reaches func(from, to string, seen map[string]bool) (edge, bool)
	reaches = func(from, to string, seen map[string]bool) (edge, bool) {
		seen[from] = true
		for _, e := range imports[from] {
			if e.to == to {
				return e, true
			}
			if !seen[e.to] {
				if _, ok := reaches(e.to, to, seen); ok {
					return e, true
				}
			}
		}
		return edge{}, false
	}
	for _, k := range p.Kinds {
		if k.FromCRD {
			continue
		}
		for _, v := range k.Versions[1:] {
			if other, ok := reaches(k.Versions[0], v, map[string]bool{}); ok {
				return fmt.Errorf("version %s of kind %s would use the types of %s, and %s of kind %s uses those of %s already: Go packages cannot import each other. Give both kinds the same first version",
					v, k.Kind, k.Versions[0], k.Versions[0], other.kind, other.to)
			}
		}
	}
	return nil
}

// wouldBe names what is right, if there is a guess.
func wouldBe(right string) string {
	if right == "" {
		return ""
	}
	return fmt.Sprintf("; %q would be right", right)
}
