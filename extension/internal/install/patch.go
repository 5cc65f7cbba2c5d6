package install

import (
	"net/http"
	"slices"

	"github.com/emicklei/go-restful/v3"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

// withoutStrategicPatch takes strategic merge patches from the routes of objects without a
// Go type: how lists are merged stands in the tags of Go types. Clients are answered 415,
// and OpenAPI, which they ask first, does not offer it. Custom resources do the same.
func withoutStrategicPatch(services []*restful.WebService) {
	for _, service := range services {
		routes := service.Routes() // the service's own, not a copy
		for i := range routes {
			r := &routes[i]
			if r.Method == http.MethodPatch && isUntyped(r.WriteSample) {
				r.Consumes = slices.DeleteFunc(slices.Clone(r.Consumes), func(media string) bool {
					return media == string(types.StrategicMergePatchType)
				})
			}
		}
	}
}

func isUntyped(sample any) bool {
	_, ok := sample.(unstructured.Unstructured)
	return ok
}
