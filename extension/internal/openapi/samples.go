package openapi

import (
	"errors"
	"fmt"

	"github.com/emicklei/go-restful/v3"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// sample stands in a route for an object without a Go type.
type sample struct{ name string }

// OpenAPIModelName is how kube-openapi finds the definition.
func (s sample) OpenAPIModelName() string { return s.name }

// NameSamples replaces the unstructured samples in the routes of services by ones that
// name their definition. It must be called before the services take requests; calling
// it twice does no harm.
func (d *Definitions) NameSamples(services ...*restful.WebService) error {
	var errs []error
	for _, service := range services {
		routes := service.Routes()
		for i := range routes {
			if err := d.nameSamples(&routes[i]); err != nil {
				errs = append(errs, fmt.Errorf("%s %s: %w", routes[i].Method, routes[i].Path, err))
			}
		}
	}
	return errors.Join(errs...)
}

func (d *Definitions) nameSamples(route *restful.Route) error {
	var errs []error
	named := func(model any) any {
		out, err := d.named(model)
		errs = append(errs, err)
		return out
	}
	route.ReadSample = named(route.ReadSample)
	route.WriteSample = named(route.WriteSample)
	for i := range route.WriteSamples {
		route.WriteSamples[i] = named(route.WriteSamples[i])
	}
	for code, response := range route.ResponseErrors {
		response.Model = named(response.Model)
		route.ResponseErrors[code] = response
	}
	return errors.Join(errs...)
}

func (d *Definitions) named(model any) (any, error) {
	var gvk schema.GroupVersionKind
	switch object := model.(type) {
	case unstructured.Unstructured:
		gvk = object.GroupVersionKind()
	case *unstructured.Unstructured:
		gvk = object.GroupVersionKind()
	case unstructured.UnstructuredList:
		gvk = object.GroupVersionKind()
	case *unstructured.UnstructuredList:
		gvk = object.GroupVersionKind()
	default:
		return model, nil
	}
	name := nameOf(gvk)
	if _, known := d.published[name]; !known {
		return model, fmt.Errorf("the sample is of %q, which is no kind of the server", gvk.GroupVersion().String()+" "+gvk.Kind)
	}
	return sample{name}, nil
}
