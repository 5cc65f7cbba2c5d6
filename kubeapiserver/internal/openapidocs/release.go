package openapidocs

import "k8s.io/kube-openapi/pkg/common"

// Releasing is called before servers are made of configs, of which any may be nil,
// and release once they have built what they build at their start. It takes out of the
// configs what that left there: all definitions of kube-apiserver, 8 MiB each time.
// Who builds documents later makes them again.
func Releasing(v2 []*common.Config, v3 []*common.OpenAPIV3Config) (release func()) {
	var all []func()
	for _, c := range v2 {
		// Builders put a func there that holds them and what they built from.
		if c != nil && c.GetOperationIDAndTagsFromRoute == nil {
			all = append(all, func() { c.GetOperationIDAndTagsFromRoute = nil })
		}
	}
	for _, c := range v3 {
		if c == nil {
			continue
		}
		if c.GetOperationIDAndTagsFromRoute == nil {
			all = append(all, func() { c.GetOperationIDAndTagsFromRoute = nil })
		}
		if c.GetDefinitions != nil {
			all = append(all, func() { c.Definitions = nil })
		}
	}
	return func() {
		for _, one := range all {
			one()
		}
	}
}
