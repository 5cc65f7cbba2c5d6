// Package openapidocs serves the OpenAPI documents of a server's own routes, with the
// bytes and headers of k8s.io/apiserver (pkg/server/routes). They are built when
// they are first asked for, and kept as JSON; as the structures that they are
// built from, those of kube-apiserver take a third of its heap.
package openapidocs

import (
	"fmt"
	"net/http"
	"strings"
	"sync"

	"github.com/emicklei/go-restful/v3"
	"k8s.io/apiserver/pkg/util/responsewriter"
	"k8s.io/klog/v2"
	"k8s.io/kube-openapi/pkg/builder"
	"k8s.io/kube-openapi/pkg/builder3"
	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/common/restfuladapter"
	"k8s.io/kube-openapi/pkg/handler"
	"k8s.io/kube-openapi/pkg/handler3"
	"k8s.io/kube-openapi/pkg/spec3"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

const (
	pathV2 = "/openapi/v2"
	pathV3 = "/openapi/v3"
)

// Install has mux serve the documents of the routes that container holds when they
// are first asked for: /openapi/v2 as config says, and /openapi/v3 as config3 says; a
// config that is nil leaves its path alone. A document that cannot be built is
// answered with 503; what cannot be built of /openapi/v3 is left out.
func Install(container *restful.Container, mux common.PathHandlerByGroupVersion, config *common.Config, config3 *common.OpenAPIV3Config) {
	if config != nil {
		mux.Handle(pathV2, builtOnFirstRequest(func() (http.Handler, error) { return buildV2(container, config) }))
	}
	if config3 != nil {
		h := builtOnFirstRequest(func() (http.Handler, error) { return buildV3(container, config3) })
		mux.Handle(pathV3, h)
		mux.HandlePrefix(pathV3+"/", h)
	}
}

// builtOnFirstRequest is a handler that is built by its first request.
func builtOnFirstRequest(build func() (http.Handler, error)) http.Handler {
	built := sync.OnceValues(build)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h, err := built()
		if err != nil {
			klog.ErrorS(err, "Serving OpenAPI documents", "path", r.URL.Path)
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		h.ServeHTTP(w, r)
	})
}

func buildV2(container *restful.Container, config *common.Config) (http.Handler, error) {
	own := *config // the builder writes to it
	document, err := builder.BuildOpenAPISpecFromRoutes(restfuladapter.AdaptWebServices(container.RegisteredWebServices()), &own)
	if err != nil {
		return nil, fmt.Errorf("building the OpenAPI v2 document: %w", err)
	}
	document.Definitions = handler.PruneDefaults(document.Definitions)
	var h registered
	handler.NewOpenAPIService(document).RegisterOpenAPIVersionedService(pathV2, &h)
	if err := encode(h, pathV2); err != nil {
		return nil, err
	}
	*document = spec.Swagger{}
	return h, nil
}

func buildV3(container *restful.Container, config *common.OpenAPIV3Config) (http.Handler, error) {
	own := *config
	if own.Definitions == nil && own.GetDefinitionName != nil { // once for all groups
		own.Definitions = own.GetDefinitions(func(name string) spec.Ref {
			unique, _ := own.GetDefinitionName(name)
			return spec.MustCreateRef("#/components/schemas/" + common.EscapeJsonPointer(unique))
		})
	}
	services := make(map[string]*restful.WebService) // by path; of several the last counts
	for _, s := range container.RegisteredWebServices() {
		services[strings.TrimPrefix(s.RootPath(), "/")] = s
	}
	service := handler3.NewOpenAPIService()
	documents := make([]*spec3.OpenAPI, 0, len(services))
	for path, s := range services {
		document, err := builder3.BuildOpenAPISpecFromRoutes(restfuladapter.AdaptWebServices([]*restful.WebService{s}), &own)
		if err != nil {
			klog.ErrorS(err, "Building an OpenAPI v3 document", "groupVersion", path)
			continue
		}
		confineKinds(document, path)
		service.UpdateGroupVersion(path, document)
		documents = append(documents, document)
	}
	root := http.HandlerFunc(service.HandleDiscovery)
	if err := encode(root, pathV3); err != nil {
		return nil, err
	}
	for _, document := range documents {
		*document = spec3.OpenAPI{}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == pathV3 {
			root(w, r)
			return
		}
		service.HandleGroupVersion(w, r)
	}), nil
}

// encode has a service of kube-openapi make the JSON of its documents. From then on
// it does not look at them again: it makes everything else of their JSON, and that
// anew only where it is given another document (pkg/handler, pkg/handler3).
func encode(h http.Handler, path string) error {
	r, err := http.NewRequest(http.MethodHead, path, nil)
	if err != nil {
		return err
	}
	r.Header.Set("Accept", "application/json")
	w := responsewriter.NewInMemoryResponseWriter()
	if h.ServeHTTP(w, r); w.RespCode() != http.StatusOK {
		return fmt.Errorf("encoding the OpenAPI documents of %s: answered %d", path, w.RespCode())
	}
	return nil
}

// registered is the one handler that was registered with it.
type registered struct{ http.Handler }

func (c *registered) Handle(_ string, h http.Handler) { c.Handler = h }
