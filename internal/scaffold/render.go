package scaffold

import (
	"bytes"
	"errors"
	"fmt"
	"go/format"
	"io/fs"
	"path"
	"slices"
	"strings"
	"text/template"

	"sigs.k8s.io/yaml"
)

// File is one of a project.
type File struct {
	Path string
	Data []byte
	// Generated says that `go generate` writes it.
	Generated bool
}

// Render gives the files of a project, by their paths. The types of a hub are read from
// written, where a user has changed them, and else from the templates; written may be nil.
func Render(p Project, set, written fs.FS) ([]File, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	lines, err := readManifest(set)
	if err != nil {
		return nil, err
	}
	r := renderer{project: p, set: set, written: written, lines: lines}
	if err := r.run(); err != nil {
		return nil, err
	}
	slices.SortFunc(r.files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	for i := 1; i < len(r.files); i++ {
		if r.files[i].Path == r.files[i-1].Path {
			return nil, fmt.Errorf("two of the names come to the same file, %s: choose another one", r.files[i].Path)
		}
	}
	return r.files, nil
}

// manifestFile lists the files of a set of templates.
const manifestFile = "files.txt"

// line is one of a manifest.
type line struct {
	subject, path, template string
	generated               bool
}

// The subjects of lines: what files are made for.
var subjects = []string{"project", "version", "hub", "kind", "type", "single", "controller", "spoke", "spoketype", "action"}

func readManifest(set fs.FS) ([]line, error) {
	data, err := fs.ReadFile(set, manifestFile)
	if err != nil {
		return nil, fmt.Errorf("templates: %w", err)
	}
	var all []line
	for text := range strings.Lines(string(data)) {
		f := strings.Fields(text)
		if len(f) == 0 || f[0] == "#" {
			continue
		}
		if len(f) < 3 || len(f) > 4 || !slices.Contains(subjects, f[0]) || (len(f) == 4 && f[3] != "generated") {
			return nil, fmt.Errorf("templates: %s: %q is no line of it", manifestFile, strings.TrimSpace(text))
		}
		all = append(all, line{f[0], f[1], f[2], len(f) == 4})
	}
	return all, nil
}

// renderer makes the files of one project.
type renderer struct {
	project      Project
	set, written fs.FS
	lines        []line
	files        []File
}

// data is what templates of every subject read.
type data struct {
	Name, Namespace, Module, Group string
	Annex                          Annex
}

type projectData struct {
	data
	Kinds       []kindData
	AllVersions []string
	Record      string
	// HasActions and HasOwn say that a kind has actions, and types of a CRD.
	HasActions, HasOwn bool
}

type versionData struct {
	data
	Version string
	// Types are the kinds that have this version.
	Types []string
	// GoTypes are the Go types of kinds whose hub it is, in the order of generated code.
	GoTypes []goType
}

// goType is a type of a kind; Is says which: root, list, spec or status.
type goType struct{ Name, Kind, Is string }

type kindData struct {
	data
	Kind, Plural, Lower, LowerCamel, Var string
	Namespaced, Controller               bool
	Hub                                  string
	Versions, Served, Spokes, Actions    []string
	// Own says that the types are those of a CRD, Sample that they have the fields of the
	// first day: spec.message and status.conditions.
	Own, Sample, Scale bool
}

// NotApplicable are the checks of conformance that are of what the kind does not have. None
// are said of a kind from a definition: what such a one has its schema says.
func (k kindData) NotApplicable() []string {
	if k.Own {
		return nil
	}
	patterns := []string{"status/isolated", "generation/status"} // conditions are all that the status has
	if !k.Scale {
		patterns = append(patterns, "scale/*")
	}
	if len(k.Served) < 2 {
		patterns = append(patterns, "versions/*", "apply/other-version")
	}
	return patterns
}

type spokeData struct {
	kindData
	Version, VersionGo string
	// SpokeSpec declares the spec, as the hub's is now, with the imports that it needs.
	SpokeSpec    string
	SpokeImports []string
	// Copied is the whole file, where the kind's types are those of a CRD.
	Copied string
	// Deprecated is the warning of a deprecated version.
	Deprecated string
	NotServed  bool
}

type actionData struct {
	kindData
	Action, ActionGo, ActionFunc, ActionFile string
}

func (r *renderer) run() error {
	p := r.project
	record, err := yaml.Marshal(p)
	if err != nil {
		return err
	}
	common := data{p.Name, p.Namespace, p.Module, p.Group, p.Annex}
	hasActions, hasOwn := false, false
	var kinds []kindData
	for _, k := range p.Kinds {
		hasActions, hasOwn = hasActions || len(k.Actions) > 0, hasOwn || k.FromCRD
		kinds = append(kinds, kindData{
			data: common, Kind: k.Kind, Plural: k.Plural, Lower: strings.ToLower(k.Kind), LowerCamel: lowerCamel(k.Kind),
			Var: pluralGo(k.Kind, k.Plural), Namespaced: k.Namespaced, Controller: k.Controller,
			Hub: k.Versions[0], Versions: k.Versions, Spokes: k.Versions[1:], Actions: k.Actions,
			Served: slices.DeleteFunc(slices.Clone(k.Versions), func(v string) bool { return slices.Contains(k.NotServed, v) }),
			Own:    k.FromCRD, Scale: k.Scale, Sample: !k.FromCRD && hasSampleFields(r.written, k),
		})
	}
	errs := []error{r.render("project", projectData{common, kinds, p.versions(), string(record), hasActions, hasOwn})}
	for _, v := range p.versions() {
		errs = append(errs, r.version(common, v))
	}
	// The types of hubs come first: spokes are made of them.
	for i, k := range kinds {
		errs = append(errs, r.render("kind", k))
		if !k.Own {
			errs = append(errs, r.render("type", k))
		}
		if len(k.Spokes) == 0 && !k.Own {
			errs = append(errs, r.render("single", k))
		}
		if p.Kinds[i].Controller {
			errs = append(errs, r.render("controller", k))
		}
		for _, a := range k.Actions {
			errs = append(errs, r.render("action", actionData{
				kindData: k, Action: a, ActionGo: title(a), ActionFunc: lowerCamel(title(a)) + k.Kind, ActionFile: strings.ReplaceAll(a, "-", "_") + "_action",
			}))
		}
	}
	for i, k := range kinds {
		for _, v := range k.Spokes {
			errs = append(errs, r.spoke(k, p.Kinds[i], v))
		}
	}
	return errors.Join(errs...)
}

// version makes the files of one version. What is generated for the types of a hub is
// known as long as no spoke is beside them, whose types may be anything.
func (r *renderer) version(common data, version string) error {
	d := versionData{data: common, Version: version}
	onlyHubs := true
	for _, k := range r.project.Kinds {
		switch at := slices.Index(k.Versions, version); {
		case at == -1:
			continue
		case at == 0 && !k.FromCRD:
			d.GoTypes = append(d.GoTypes, goType{k.Kind, k.Kind, "root"}, goType{k.Kind + "List", k.Kind, "list"},
				goType{k.Kind + "Spec", k.Kind, "spec"}, goType{k.Kind + "Status", k.Kind, "status"})
		default:
			onlyHubs = false
		}
		d.Types = append(d.Types, k.Kind)
	}
	slices.SortFunc(d.GoTypes, func(a, b goType) int { return strings.Compare(a.Name, b.Name) })
	errs := []error{r.render("version", d)}
	if onlyHubs {
		errs = append(errs, r.render("hub", d))
	}
	return errors.Join(errs...)
}

func (r *renderer) spoke(k kindData, answers Kind, version string) error {
	warning, deprecated := answers.Deprecated[version]
	if deprecated && warning == "" {
		warning = r.project.Group + "/" + version + " " + k.Kind + " is deprecated"
	}
	d := spokeData{kindData: k, Version: version, VersionGo: title(version), Deprecated: warning, NotServed: slices.Contains(answers.NotServed, version)}
	if k.Own {
		d.Copied = r.copyOfHub(k, version)
		errs := []error{r.render("spoke", d)}
		if d.Copied != "" {
			errs = append(errs, r.render("spoketype", d))
		}
		return errors.Join(errs...)
	}
	spec, imports, err := copySpec(r.sources(path.Join("api", k.Hub)), k.Kind, r.project.Module+"/api/"+k.Hub, k.Hub)
	if err != nil {
		return err
	}
	d.SpokeSpec, d.SpokeImports = spec, imports
	return errors.Join(r.render("spoke", d), r.render("spoketype", d))
}

// copyOfHub is the file with the types of a hub, for another version; empty where it is
// not written.
func (r *renderer) copyOfHub(k kindData, version string) string {
	if r.written == nil {
		return ""
	}
	source, err := fs.ReadFile(r.written, path.Join("api", k.Hub, k.Lower+"_types.go"))
	if err != nil {
		return ""
	}
	var b strings.Builder
	for line := range strings.Lines(string(source)) {
		switch strings.TrimSpace(line) {
		case "package " + k.Hub:
			line = "package " + version + "\n"
		case "// +kubebuilder:storageversion":
			continue
		}
		b.WriteString(line)
	}
	return b.String()
}

// sources are the Go files of a folder, as written or else as rendered.
func (r *renderer) sources(folder string) map[string][]byte {
	all := map[string][]byte{}
	for _, f := range r.files {
		if path.Dir(f.Path) == folder && !f.Generated && strings.HasSuffix(f.Path, ".go") {
			all[f.Path] = f.Data
		}
	}
	if r.written == nil {
		return all
	}
	names, err := fs.Glob(r.written, folder+"/*.go")
	if err != nil {
		return all
	}
	for _, name := range names {
		if source, err := fs.ReadFile(r.written, name); err == nil && !strings.HasSuffix(name, "_test.go") {
			all[name] = source
		}
	}
	return all
}

// render makes the files of one subject.
func (r *renderer) render(subject string, data any) error {
	for _, l := range r.lines {
		if l.subject != subject {
			continue
		}
		name, err := execute(l.path, []byte(l.path), data)
		if err != nil {
			return err
		}
		text, err := fs.ReadFile(r.set, l.template)
		if err != nil {
			return fmt.Errorf("templates: %w", err)
		}
		out, err := execute(l.template, text, data)
		if err != nil {
			return err
		}
		if strings.HasSuffix(string(name), ".go") && !l.generated {
			formatted, err := format.Source(out)
			if err != nil {
				return fmt.Errorf("templates: %s: %w", l.template, err)
			}
			out = formatted
		}
		r.files = append(r.files, File{Path: string(name), Data: out, Generated: l.generated})
	}
	return nil
}

func execute(name string, text []byte, data any) ([]byte, error) {
	t, err := template.New(name).Option("missingkey=error").Funcs(template.FuncMap{
		"title": title,
		"resource": func(group, version, resource string) string {
			return fmt.Sprintf("{Group: %q, Version: %q, Resource: %q}", group, version, resource)
		},
		// yaml is a string as YAML has it, quoted where it would be read as something else.
		"yaml": func(text string) (string, error) {
			out, err := yaml.Marshal(text)
			return strings.TrimSpace(string(out)), err
		},
	}).Parse(string(text))
	if err != nil {
		return nil, fmt.Errorf("templates: %w", err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, data); err != nil {
		return nil, fmt.Errorf("templates: %w", err)
	}
	return out.Bytes(), nil
}
