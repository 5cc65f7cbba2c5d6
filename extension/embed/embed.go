// Package embed puts kinds of the SDK on a generic API server that somebody else has put
// together: the control plane of a program of your own. They are served by it as its other
// resources are, behind its authentication, authorization, audit and fairness, in its
// discovery and its OpenAPI documents.
//
//	kinds, err := embed.New(extension.Computed[v1.Weather]{…})
//	kinds.Describe(&config.Config)               // before the server is made
//	server, err := config.Complete().New("mine", delegate)
//	run, err := kinds.Install(server, &config.Config)
//	err = server.AddPostStartHook("weather", …)  // which calls run
//
// Only kinds that are not stored can be embedded, without actions and streams.
//
// Alone of the packages that users of the SDK import, this one has types of k8s.io/apiserver
// in what it exports: who has a server of that library has its version too.
package embed

import (
	"context"
	"errors"
	"slices"

	"k8s.io/apimachinery/pkg/runtime/schema"
	genericapiserver "k8s.io/apiserver/pkg/server"

	"github.com/annex-api/annex/extension"
	"github.com/annex-api/annex/extension/internal/server"
)

// Kinds are what is put on a server.
type Kinds struct{ declared server.Declared }

// New takes kinds that are Computed, or Projections whose Source has a Host. The error has all
// that is wrong with them.
func New(parts ...extension.Part) (*Kinds, error) {
	declared, err := extension.Declare(parts...)
	if err != nil {
		return nil, err
	}
	if len(declared.Kinds) == 0 {
		return nil, errors.New("there is no kind to embed")
	}
	return &Kinds{declared}, nil
}

// GroupVersions are what the kinds are served in, each once.
func (k *Kinds) GroupVersions() []schema.GroupVersion {
	var all []schema.GroupVersion
	for _, one := range k.declared.Kinds {
		for _, v := range one.Served() {
			if gv := (schema.GroupVersion{Group: one.Hub.Group, Version: v}); !slices.Contains(all, gv) {
				all = append(all, gv)
			}
		}
	}
	return all
}

// Describe adds the kinds to the OpenAPI documents of the server that is made of config. It
// writes into OpenAPIConfig and OpenAPIV3Config: who shares these with another server copies
// them before.
func (k *Kinds) Describe(config *genericapiserver.Config) {
	k.declared.OpenAPI.Join(config.OpenAPIConfig, config.OpenAPIV3Config)
}

// Install puts the kinds on a server that was made of config and is not prepared yet: their
// routes, their discovery, their readiness. run keeps them current until its context ends;
// until it is called they are not ready. The server destroys them.
func (k *Kinds) Install(on *genericapiserver.GenericAPIServer, config *genericapiserver.Config) (run func(context.Context) error, err error) {
	return server.Embed(on, config, k.declared)
}
