package kubeapiserver

import (
	"net/http"
	"strings"

	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/request"
	genericapiserver "k8s.io/apiserver/pkg/server"

	"github.com/annex-api/annex/apis/aggregation/v1alpha1"
	"github.com/annex-api/annex/console"
)

// installConsole serves the web page to whoever may get RemoteAPIServices. It stands behind
// authentication and authorization as any path does; the ClusterRole annex:console gives the path
// to every user.
//
// The path is in no list of paths, which stays kube-apiserver's. What the page reads it asks this server
// for, as the browser's user.
func installConsole(server *genericapiserver.GenericAPIServer, authorizer authorizer.Authorizer) {
	page := console.Handler(console.Options{Allowed: mayGetRemoteAPIServices(authorizer)})
	mux := server.Handler.NonGoRestfulMux
	mux.UnlistedHandle(strings.TrimSuffix(console.Path, "/"), page)
	mux.UnlistedHandlePrefix(console.Path, page)
}

// mayGetRemoteAPIServices asks for the request's user. There is no authorizer where the host of the
// chain lets everybody do everything.
func mayGetRemoteAPIServices(a authorizer.Authorizer) func(*http.Request) (bool, error) {
	if a == nil {
		return nil
	}
	return func(r *http.Request) (bool, error) {
		user, ok := request.UserFrom(r.Context())
		if !ok {
			return false, nil
		}
		decision, _, err := a.Authorize(r.Context(), authorizer.AttributesRecord{
			User: user, Verb: "get", ResourceRequest: true, Path: r.URL.Path,
			APIGroup: v1alpha1.GroupVersion.Group, APIVersion: v1alpha1.GroupVersion.Version, Resource: "remoteapiservices",
		})
		return decision == authorizer.DecisionAllow, err
	}
}
