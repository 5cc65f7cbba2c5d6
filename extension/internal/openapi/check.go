package openapi

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/emicklei/go-restful/v3"
	openapi_v2 "github.com/google/gnostic-models/openapiv2"
	"k8s.io/kube-openapi/pkg/builder"
	"k8s.io/kube-openapi/pkg/builder3"
	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/common/restfuladapter"
	"k8s.io/kube-openapi/pkg/handler"
	"k8s.io/kube-openapi/pkg/util"
	"k8s.io/kube-openapi/pkg/util/proto"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// Check builds OpenAPI v2 and v3 of the services as the server will, and reads v2 as
// kubectl does. A fault names the kind, or the route if it is the route's.
func (d *Definitions) Check(services ...*restful.WebService) error {
	if err := d.checkSamples(services); err != nil {
		return err
	}
	if err := d.build(services); err != nil {
		return d.blame(err)
	}
	return nil
}

// build makes everything that is published.
func (d *Definitions) build(services []*restful.WebService) error {
	if _, err := d.TypeConverter(); err != nil {
		return err
	}
	v2, err := builder.BuildOpenAPISpecFromRoutes(restfuladapter.AdaptWebServices(services), d.unseenV2())
	if err == nil {
		err = checkV2(v2)
	}
	if err != nil {
		return fmt.Errorf("OpenAPI v2: %w", err)
	}
	for _, service := range services {
		if _, err := builder3.BuildOpenAPISpecFromRoutes(restfuladapter.AdaptWebServices([]*restful.WebService{service}), d.V3("check")); err != nil {
			return fmt.Errorf("OpenAPI v3 of %s: %w", service.RootPath(), err)
		}
	}
	return nil
}

// unseenV2 are the settings of a document that is read by Check alone.
func (d *Definitions) unseenV2() *common.Config {
	config := d.V2("check")
	config.Info.Version = "unversioned"
	return config
}

// blame names the kinds whose definitions are at fault for err, where it is theirs.
func (d *Definitions) blame(err error) error {
	var errs []error
	for i := range d.kinds {
		k := &d.kinds[i]
		name := nameOf(k.GroupVersion.WithKind(k.Kind))
		v2, err := builder.BuildOpenAPIDefinitionsForResources(d.unseenV2(), name)
		if err == nil {
			err = checkV2(v2)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: OpenAPI v2: %w", k, err))
		}
		if _, err := builder3.BuildOpenAPIDefinitionsForResources(d.V3("check"), name); err != nil {
			errs = append(errs, fmt.Errorf("%s: OpenAPI v3: %w", k, err))
		}
	}
	if len(errs) == 0 {
		return err
	}
	return errors.Join(errs...)
}

// checkSamples finds samples without a definition, and names one route for each.
func (d *Definitions) checkSamples(services []*restful.WebService) error {
	known := d.DefinitionsV3(func(string) spec.Ref { return spec.Ref{} })
	told := map[string]bool{}
	var errs []error
	for _, service := range services {
		for _, route := range service.Routes() {
			for _, name := range missing(&route, known) {
				err := fmt.Errorf("%v: OpenAPI has no definition of %s", route.Metadata[extensionKinds], name)
				if !told[err.Error()] {
					told[err.Error()] = true
					errs = append(errs, fmt.Errorf("%w, see %s %s", err, route.Method, route.Path))
				}
			}
		}
	}
	return errors.Join(errs...)
}

// missing gives the names of a route's samples that have no definition.
func missing(route *restful.Route, known map[string]common.OpenAPIDefinition) []string {
	models := []any{route.ReadSample, route.WriteSample}
	for _, response := range route.ResponseErrors {
		models = append(models, response.Model)
	}
	var names []string
	for _, model := range models {
		if model == nil {
			continue
		}
		name := util.GetCanonicalTypeName(model)
		if simple, _ := common.OpenAPITypeFormat(name); simple != "" {
			continue
		}
		if _, ok := known[name]; !ok {
			names = append(names, name)
		}
	}
	return names
}

func checkV2(document *spec.Swagger) error {
	document.Definitions = handler.PruneDefaults(document.Definitions)
	_, err := readV2(document)
	return err
}

// readV2 reads a document into models as kubectl and client-go do.
func readV2(document *spec.Swagger) (proto.Models, error) {
	raw, err := json.Marshal(document)
	if err != nil {
		return nil, err
	}
	parsed, err := openapi_v2.ParseDocument(raw)
	if err != nil {
		return nil, err
	}
	return proto.NewOpenAPIData(parsed)
}
