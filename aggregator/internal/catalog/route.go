package catalog

import "strings"

// Kind says who answers a path.
type Kind int

const (
	// Local paths belong to the next handler.
	Local Kind = iota
	// Index is the list of paths at /.
	Index
	// GroupList is /apis.
	GroupList
	// GroupVersions is /apis/<group>.
	GroupVersions
	// Remote paths belong to an extension server.
	Remote
	// OpenAPIV2 is /openapi/v2.
	OpenAPIV2
	// OpenAPIV3 is /openapi/v3 and everything below it.
	OpenAPIV3
)

// Route is the answer to one path.
type Route struct {
	Kind Kind
	// Group is set for GroupVersions.
	Group *Group
	// APIService is set for Remote.
	APIService *APIService
}

// Route decides who answers a request's decoded URL path. It does not
// allocate.
func (s *Snapshot) Route(path string) Route {
	switch path {
	case "/", "/index.html":
		return Route{Kind: Index}
	case "/apis", "/apis/":
		return Route{Kind: GroupList}
	case "/openapi/v2":
		return Route{Kind: OpenAPIV2}
	case "/openapi/v3":
		return Route{Kind: OpenAPIV3}
	}
	if rest, ok := strings.CutPrefix(path, "/apis/"); ok {
		return s.routeGroup(rest)
	}
	if path == "/api" || strings.HasPrefix(path, "/api/") {
		return remote(s.byPath[groupVersion{"", "v1"}])
	}
	if strings.HasPrefix(path, "/openapi/v3/") {
		return Route{Kind: OpenAPIV3}
	}
	return Route{}
}

func (s *Snapshot) routeGroup(rest string) Route {
	group, rest, _ := strings.Cut(rest, "/")
	if rest == "" {
		if g := s.groups[group]; g != nil {
			return Route{Kind: GroupVersions, Group: g}
		}
		return Route{}
	}
	version, _, _ := strings.Cut(rest, "/")
	if group == "" {
		return Route{}
	}
	return remote(s.byPath[groupVersion{group, version}])
}

func remote(a *APIService) Route {
	if a == nil || a.Registration.Local {
		return Route{}
	}
	return Route{Kind: Remote, APIService: a}
}
