package openapi

import (
	"fmt"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	"k8s.io/apimachinery/pkg/util/managedfields"
	apiopenapi "k8s.io/apiserver/pkg/endpoints/openapi"
	"k8s.io/kube-openapi/pkg/builder3"
	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/common/restfuladapter"
	"k8s.io/kube-openapi/pkg/spec3"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// V2 are the settings of OpenAPI v2 for a server of a title. The version is left to
// the server.
func (d *Definitions) V2(title string) *common.Config {
	return &common.Config{
		ProtocolList:                   []string{"https"},
		IgnorePrefixes:                 []string{},
		Info:                           info(title),
		DefaultResponse:                &spec.Response{ResponseProps: spec.ResponseProps{Description: "Default Response."}},
		GetOperationIDAndTagsFromRoute: operation,
		GetDefinitionName:              d.Name,
		GetDefinitions:                 d.DefinitionsV2,
	}
}

// V3 are the settings of OpenAPI v3 for a server of a title. The version is left to
// the server.
func (d *Definitions) V3(title string) *common.OpenAPIV3Config {
	return &common.OpenAPIV3Config{
		IgnorePrefixes:                 []string{},
		Info:                           info(title),
		DefaultResponse:                &spec3.Response{ResponseProps: spec3.ResponseProps{Description: "Default Response."}},
		GetOperationIDAndTagsFromRoute: operation,
		GetDefinitionName:              d.Name,
		GetDefinitions:                 d.DefinitionsV3,
	}
}

// operation names a route as Kubernetes does: by the verb, the group, the version and
// what comes after.
func operation(route common.Route) (id string, tags []string, err error) {
	adapter, ok := route.(*restfuladapter.RouteAdapter)
	if !ok {
		return "", nil, fmt.Errorf("%s %s is no route of go-restful, but a %T", route.Method(), route.Path(), route)
	}
	return apiopenapi.GetOperationIDAndTags(adapter.Route)
}

func info(title string) *spec.Info {
	return &spec.Info{InfoProps: spec.InfoProps{Title: title}}
}

// TypeConverter is by what server-side apply merges objects of the kinds, and
// autoscaling/v1 Scale: the definitions of v3, in which it passes over what only
// validates.
func (d *Definitions) TypeConverter() (managedfields.TypeConverter, error) {
	names := []string{autoscalingv1.Scale{}.OpenAPIModelName()}
	for i := range d.kinds {
		names = append(names, nameOf(d.kinds[i].GroupVersion.WithKind(d.kinds[i].Kind)))
	}
	models, err := builder3.BuildOpenAPIDefinitionsForResources(d.V3(""), names...)
	if err != nil {
		return nil, fmt.Errorf("server-side apply: %w", err)
	}
	converter, err := managedfields.NewTypeConverter(models, false)
	if err != nil {
		return nil, fmt.Errorf("server-side apply: %w", err)
	}
	return converter, nil
}
