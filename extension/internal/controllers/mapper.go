package controllers

import (
	"net/http"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	"github.com/annex-api/annex/extension/internal/kind"
)

// mapper says where kinds are served: own ones as they are declared, the rest as discovery
// says. The host has a server's kinds in its discovery some time after the server is
// registered only, and who asks it in vain waits for 10 s.
func mapper(own []*kind.Kind) func(*rest.Config, *http.Client) (meta.RESTMapper, error) {
	return func(c *rest.Config, client *http.Client) (meta.RESTMapper, error) {
		others, err := apiutil.NewDynamicRESTMapper(c, client)
		if err != nil {
			return nil, err
		}
		return meta.FirstHitRESTMapper{MultiRESTMapper: meta.MultiRESTMapper{declared(own), others}}, nil
	}
}

// declared maps kinds in every version that is served, the hub first.
func declared(kinds []*kind.Kind) meta.RESTMapper {
	var preferred []schema.GroupVersion
	for _, k := range kinds {
		preferred = append(preferred, k.Hub)
	}
	m := meta.NewDefaultRESTMapper(preferred)
	for _, k := range kinds {
		scope := meta.RESTScopeRoot
		if k.Namespaced {
			scope = meta.RESTScopeNamespace
		}
		for _, version := range k.Served() {
			gv := schema.GroupVersion{Group: k.Hub.Group, Version: version}
			m.AddSpecific(gv.WithKind(k.Names.Kind), gv.WithResource(k.Names.Plural), gv.WithResource(k.Names.Singular), scope)
		}
	}
	return m
}
