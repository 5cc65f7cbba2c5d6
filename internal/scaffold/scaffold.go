// Package scaffold makes projects of extension API servers, extends them and brings them
// up to date.
//
// A [Project] is what was answered when it was made; it is kept in the project, in
// annex.yaml. [Render] gives the files that come of the answers, always the same. What
// was written by hand since is the difference to that: [Extend] and [Update] render what
// was and what shall be, and [Plan] merges the difference into the files that there are.
package scaffold

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"sigs.k8s.io/yaml"
)

// RecordFile has the answers, in every project.
const RecordFile = "annex.yaml"

// Current is the number of the templates that new projects are made from. It grows with
// every release that changes them; the ones before go to past.
const Current = 1

//go:embed all:templates
var templates embed.FS

// Templates gives those of a number.
func Templates(number int) (fs.FS, error) {
	if number != Current {
		return nil, fmt.Errorf("this annex has no scaffold %d; it has %d", number, Current)
	}
	return fs.Sub(templates, "templates")
}

// Project is what a project was made from.
type Project struct {
	// Scaffold is the number of the templates.
	Scaffold int `json:"scaffold"`
	// Name is the server's: its Service, its image.
	Name string `json:"name"`
	// Namespace is where it runs.
	Namespace string `json:"namespace"`
	// Module is the path of the Go module.
	Module string `json:"module"`
	// Group is the API group of all kinds.
	Group string `json:"group"`
	// Annex is what the project is built with.
	Annex Annex  `json:"annex"`
	Kinds []Kind `json:"kinds"`
}

// Annex is a version of Annex, or the folder of a checkout to use in place of one.
type Annex struct {
	Version  string `json:"version"`
	Checkout string `json:"checkout,omitempty"`
}

// Kind is a kind of the server.
type Kind struct {
	Kind       string `json:"kind"`
	Plural     string `json:"plural"`
	Namespaced bool   `json:"namespaced"`
	// Versions are those that it is served in, the hub first.
	Versions   []string `json:"versions"`
	Controller bool     `json:"controller"`
	Actions    []string `json:"actions,omitempty"`
	// FromCRD says that the types were made of a CustomResourceDefinition, and not from
	// templates. They are the user's from then on.
	FromCRD bool `json:"fromCRD,omitempty"`
	// Scale says that the kind has the subresource scale.
	Scale bool `json:"scale,omitempty"`
	// NotServed are versions that are read from storage only.
	NotServed []string `json:"notServed,omitempty"`
	// Deprecated are versions with the warning that their clients get.
	Deprecated map[string]string `json:"deprecated,omitempty"`
}

// Read gives the project of a folder.
func Read(folder fs.FS) (Project, error) {
	var p Project
	data, err := fs.ReadFile(folder, RecordFile)
	if errors.Is(err, fs.ErrNotExist) {
		return p, fmt.Errorf("there is no %s: this is no project that annex new made", RecordFile)
	}
	if err != nil {
		return p, err
	}
	if err := yaml.UnmarshalStrict(data, &p); err != nil {
		return p, fmt.Errorf("%s does not parse: %w", RecordFile, err)
	}
	if err := p.Validate(); err != nil {
		return p, fmt.Errorf("%s: %w", RecordFile, err)
	}
	return p, nil
}

// clone is a copy that shares nothing.
func (p Project) clone() Project {
	p.Kinds = slices.Clone(p.Kinds)
	for i := range p.Kinds {
		p.Kinds[i].Versions = slices.Clone(p.Kinds[i].Versions)
		p.Kinds[i].Actions = slices.Clone(p.Kinds[i].Actions)
		p.Kinds[i].NotServed = slices.Clone(p.Kinds[i].NotServed)
		p.Kinds[i].Deprecated = maps.Clone(p.Kinds[i].Deprecated)
	}
	return p
}

// kind finds a kind by its name; the only one has none.
func (p Project) kind(name string) (*Kind, error) {
	if name == "" && len(p.Kinds) == 1 {
		return &p.Kinds[0], nil
	}
	var names []string
	for i := range p.Kinds {
		if p.Kinds[i].Kind == name {
			return &p.Kinds[i], nil
		}
		names = append(names, p.Kinds[i].Kind)
	}
	if name == "" {
		return nil, fmt.Errorf("which kind is it for? --kind is one of %q", names)
	}
	return nil, fmt.Errorf("there is no kind %q; there are %q", name, names)
}
