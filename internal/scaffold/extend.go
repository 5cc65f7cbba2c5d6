package scaffold

import (
	"bytes"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// New is a project without kinds.
func New(name, module, namespace, group string, annex Annex) Project {
	p := Project{Scaffold: Current, Name: name, Module: module, Namespace: namespace, Group: group, Annex: annex}
	if p.Module == "" {
		p.Module = "example.com/" + name
	}
	if p.Namespace == "" {
		p.Namespace = name + "-system"
	}
	return p
}

// NewKind is a kind of one version. An empty plural is guessed.
func NewKind(kind, many, version string, namespaced, controller bool) Kind {
	if many == "" {
		many = plural(kind)
	}
	return Kind{Kind: kind, Plural: many, Namespaced: namespaced, Versions: []string{version}, Controller: controller}
}

// NewKinds are kinds of one version. Plurals are KIND=PLURAL, or PLURAL for the only one.
func NewKinds(names, plurals []string, version string, namespaced, controller bool) ([]Kind, error) {
	said := map[string]string{}
	for _, p := range plurals {
		kind, many, ok := strings.Cut(p, "=")
		if !ok && len(names) == 1 {
			kind, many = names[0], p
		}
		if many == "" || !slices.Contains(names, kind) {
			return nil, fmt.Errorf("--plural %q is not of the form KIND=PLURAL with a kind of --kind: Series=series would be right", p)
		}
		said[kind] = many
	}
	var kinds []Kind
	for _, name := range names {
		kinds = append(kinds, NewKind(name, said[name], version, namespaced, controller))
	}
	return kinds, nil
}

// Addition changes the answers of a project.
type Addition func(p *Project) error

// AddKinds adds kinds. An empty version is the hub of the first kind that there is.
func AddKinds(kinds ...Kind) Addition {
	return func(p *Project) error {
		for _, k := range kinds {
			if err := CheckKind(k.Kind); err != nil {
				return err
			}
			if k.Versions[0] == "" {
				k.Versions = []string{p.Kinds[0].Versions[0]}
			}
			p.Kinds = append(p.Kinds, k)
		}
		return nil
	}
}

// AddKindsOf adds kinds of a group, which is that of the project.
func AddKindsOf(group string, kinds ...Kind) Addition {
	return func(p *Project) error {
		if group != p.Group {
			return fmt.Errorf("the group of the kinds is %q, and that of the project %q: a project has kinds of one group", group, p.Group)
		}
		return AddKinds(kinds...)(p)
	}
}

// AddVersion serves a kind in another version, beside its hub.
func AddVersion(kind, version string) Addition {
	return func(p *Project) error {
		k, err := p.kind(kind)
		if err != nil {
			return err
		}
		k.Versions = append(k.Versions, version)
		return nil
	}
}

// AddAction adds an action to a kind.
func AddAction(kind, action string) Addition {
	return func(p *Project) error {
		k, err := p.kind(kind)
		if err != nil {
			return err
		}
		k.Actions = append(k.Actions, action)
		return nil
	}
}

// AddController gives a kind a controller.
func AddController(kind string) Addition {
	return func(p *Project) error {
		k, err := p.kind(kind)
		if err != nil {
			return err
		}
		if k.Controller {
			return fmt.Errorf("kind %s has a controller already", k.Kind)
		}
		k.Controller = true
		return nil
	}
}

// Extend says what an addition does to the project in a folder. What was written by hand
// stays. A file that would be new must not be there, unless it is the same. own are the
// types of kinds that are not made from templates.
func Extend(folder fs.FS, add Addition, own ...File) ([]Step, error) {
	before, err := Read(folder)
	if err != nil {
		return nil, err
	}
	set, err := Templates(before.Scaffold)
	if err != nil {
		return nil, fmt.Errorf("%w: run annex update first", err)
	}
	after := before.clone()
	if err := add(&after); err != nil {
		return nil, err
	}
	was, err := Render(before, set, folder)
	if err != nil {
		return nil, err
	}
	shall, err := Render(after, set, folder)
	if err != nil {
		return nil, err
	}
	shall = append(shall, own...)
	for _, f := range shall {
		isNew := !slices.ContainsFunc(was, func(old File) bool { return old.Path == f.Path })
		// The same bytes are what an addition wrote that did not come to its end.
		if now, err := fs.ReadFile(folder, f.Path); err == nil && isNew && !f.Generated && !bytes.Equal(now, f.Data) {
			return nil, fmt.Errorf("%s is there already: rename it, or choose another name", f.Path)
		}
	}
	steps, err := plan(folder, was, shall, planning{keepBoth: true})
	if err != nil {
		return nil, err
	}
	var created []File
	for _, s := range steps {
		if s.Outcome == Create {
			created = append(created, File{Path: s.Path, Data: s.Data})
		}
	}
	return steps, declaredTwice(folder, created)
}

// Update says what the newest templates, and an Annex to build with, do to the project in
// a folder. Where they change what was changed by hand, both stand between marks.
func Update(folder fs.FS, annex Annex) (from int, steps []Step, err error) {
	return update(folder, annex, Current, Templates)
}

func update(folder fs.FS, annex Annex, to int, templates func(int) (fs.FS, error)) (int, []Step, error) {
	before, err := Read(folder)
	if err != nil {
		return 0, nil, err
	}
	if before.Scaffold > to {
		return 0, nil, fmt.Errorf("the project has scaffold %d, and this annex %d at most: use a newer annex", before.Scaffold, to)
	}
	after := before.clone()
	after.Scaffold, after.Annex = to, annex
	render := func(p Project) ([]File, error) {
		set, err := templates(p.Scaffold)
		if err != nil {
			return nil, err
		}
		return Render(p, set, folder)
	}
	was, err := render(before)
	if err != nil {
		return 0, nil, err
	}
	shall, err := render(after)
	if err != nil {
		return 0, nil, err
	}
	steps, err := plan(folder, was, shall, planning{mark: true})
	return before.Scaffold, steps, err
}
