package extension

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	runtimeschema "k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"github.com/annex-api/annex/extension/internal/controllers"
	"github.com/annex-api/annex/extension/internal/host"
	"github.com/annex-api/annex/extension/internal/kind"
	"github.com/annex-api/annex/extension/internal/schema"
	"github.com/annex-api/annex/extension/internal/server"
	"github.com/annex-api/annex/extension/storage"
)

// Part is what a server is made of: kinds, controllers, settings. Only this package
// makes Parts.
type Part interface{ addTo(*assembly) error }

// assembly collects parts.
type assembly struct {
	kinds []*kind.Kind
	// views open kinds that are not stored; host is nil where there is none.
	views map[*kind.Kind]func(host *rest.Config, typer runtime.ObjectTyper) (server.View, error)
	// rights are what kinds need at the host.
	rights []host.Right
	// definitions are those of kinds that have a schema.
	definitions map[*kind.Kind]*schema.Definition
	drivers     []storage.Driver
	controllers []controllers.Setup
}

// assemble gives what the parts come to, or all that is wrong with them.
func assemble(parts []Part) (*assembly, error) {
	a := &assembly{views: map[*kind.Kind]func(*rest.Config, runtime.ObjectTyper) (server.View, error){}, definitions: map[*kind.Kind]*schema.Definition{}}
	var errs []error
	for _, p := range parts {
		if p == nil {
			errs = append(errs, errors.New("a part is nil"))
			continue
		}
		errs = append(errs, p.addTo(a))
	}
	errs = append(errs, a.conflicts())
	return a, errors.Join(errs...)
}

// Declare is for package embed. It gives what parts come to that are all of kinds which are
// not stored: a server of somebody else's has neither a storage nor controllers for them.
func Declare(parts ...Part) (server.Declared, error) {
	a, err := assemble(parts)
	errs := []error{err}
	if len(a.controllers) > 0 || len(a.drivers) > 0 {
		errs = append(errs, errors.New("controllers and storage drivers are parts of a server of your own: leave them out"))
	}
	for _, k := range a.kinds {
		switch {
		case a.views[k] == nil:
			errs = append(errs, fmt.Errorf("%s: it is stored: what is embedded is a Computed or a Projection", describe(k)))
		case len(k.Subresources) > 0:
			errs = append(errs, fmt.Errorf("%s: Sub: a server that does not know which of its requests take long has no actions and streams", describe(k)))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return server.Declared{}, err
	}
	documents, err := a.documents()
	if err != nil {
		return server.Declared{}, err
	}
	return server.Declared{Kinds: a.kinds, Views: a.opened(nil), OpenAPI: documents}, nil
}

// opened gives the views of a server with a host, which may be nil.
func (a *assembly) opened(host *rest.Config) map[*kind.Kind]func(runtime.ObjectTyper) (server.View, error) {
	views := map[*kind.Kind]func(runtime.ObjectTyper) (server.View, error){}
	for k, open := range a.views {
		views[k] = func(typer runtime.ObjectTyper) (server.View, error) { return open(host, typer) }
	}
	return views
}

// conflicts finds names that two kinds of one group have. Two with a short name in
// common are none in different groups: the command line takes either.
func (a *assembly) conflicts() error {
	type name struct{ group, text string }
	owners := map[name]*kind.Kind{}
	var errs []error
	for _, k := range a.kinds {
		own := []string{k.Names.Kind, k.Names.List, k.Names.Plural, k.Names.Singular}
		own = append(own, k.Names.Short...)
		slices.Sort(own)
		for _, n := range slices.Compact(own) {
			key := name{k.Hub.Group, n}
			if other := owners[key]; other != nil {
				errs = append(errs, fmt.Errorf("%s: the name %q is also that of %s: name one of them otherwise", describe(k), n, describe(other)))
			}
			owners[key] = k
		}
	}
	return errors.Join(errs...)
}

func describe(k *kind.Kind) string {
	return fmt.Sprintf("kind %s of %s", k.Names.Kind, k.Hub)
}

// groupVersions are all that the kinds are served in, each once.
func (a *assembly) groupVersions() []runtimeschema.GroupVersion {
	var all []runtimeschema.GroupVersion
	for _, k := range a.kinds {
		for _, v := range k.Served() {
			if gv := (runtimeschema.GroupVersion{Group: k.Hub.Group, Version: v}); !slices.Contains(all, gv) {
				all = append(all, gv)
			}
		}
	}
	slices.SortFunc(all, func(a, b runtimeschema.GroupVersion) int { return strings.Compare(a.String(), b.String()) })
	return all
}
