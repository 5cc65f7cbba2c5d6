package extension

import (
	"context"

	"k8s.io/apiserver/pkg/endpoints/request"
)

// Caller is who sent a request, as the API server found out.
type Caller struct {
	Name, UID string
	Groups    []string
	Extra     map[string][]string
}

// CallerOf gives the caller of the request that a hook runs for; the zero Caller outside
// of one.
func CallerOf(ctx context.Context) Caller {
	who, ok := request.UserFrom(ctx)
	if !ok {
		return Caller{}
	}
	return Caller{Name: who.GetName(), UID: who.GetUID(), Groups: who.GetGroups(), Extra: who.GetExtra()}
}

// Request is what a hook may know of the request that it runs for.
type Request struct {
	// Verb is what is done, in the words of RBAC: create, update, patch, delete and so on.
	Verb string
	// Version is the one that the client asked in.
	Version               string
	Resource, Subresource string
	Namespace, Name       string
}

// RequestOf gives the request that a hook runs for; false outside of one.
func RequestOf(ctx context.Context) (Request, bool) {
	info, ok := request.RequestInfoFrom(ctx)
	if !ok {
		return Request{}, false
	}
	return Request{
		Verb: info.Verb, Version: info.APIVersion, Resource: info.Resource, Subresource: info.Subresource,
		Namespace: info.Namespace, Name: info.Name,
	}, true
}
