package scaffold

import (
	"fmt"
	"io/fs"
	"slices"
)

// New is a project with kinds of one version, each with a controller.
func New(name, module, group, version string, kinds []string, namespaced bool, annex Annex) Project {
	p := Project{Scaffold: Current, Name: name, Module: module, Group: group, Annex: annex}
	if p.Module == "" {
		p.Module = "example.com/" + name
	}
	for _, k := range kinds {
		p.Kinds = append(p.Kinds, newKind(k, version, namespaced, true))
	}
	return p
}

func newKind(kind, version string, namespaced, controller bool) Kind {
	return Kind{Kind: kind, Plural: plural(kind), Namespaced: namespaced, Versions: []string{version}, Controller: controller}
}

// Addition changes the answers of a project.
type Addition func(p *Project) error

// AddKind adds a kind. An empty version is the hub of the first one.
func AddKind(kind, version string, namespaced, controller bool) Addition {
	return func(p *Project) error {
		if err := CheckKind(kind); err != nil {
			return err
		}
		if version == "" {
			version = p.Kinds[0].Versions[0]
		}
		p.Kinds = append(p.Kinds, newKind(kind, version, namespaced, controller))
		return nil
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
// stays. A file that would be new must not be there.
func Extend(folder fs.FS, add Addition) ([]Step, error) {
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
	for _, f := range shall {
		isNew := !slices.ContainsFunc(was, func(old File) bool { return old.Path == f.Path })
		if _, err := fs.Stat(folder, f.Path); err == nil && isNew && !f.Generated {
			return nil, fmt.Errorf("%s is there already: rename it, or choose another name", f.Path)
		}
	}
	return plan(folder, was, shall, planning{keepBoth: true})
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
