package server

import (
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/features"
	genericapiserver "k8s.io/apiserver/pkg/server"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/apiserver/pkg/warning"

	"github.com/annex-api/annex/extension/internal/codec"
	"github.com/annex-api/annex/extension/internal/kind"
	"github.com/annex-api/annex/extension/internal/versions"
)

// longRunning says which requests take as long as they take: watches, actions, streams.
// A subresource counts with its group and resource: another kind's may have the name too.
func longRunning(kinds []*kind.Kind) request.LongRunningRequestCheck {
	type path struct {
		schema.GroupResource
		sub string
	}
	long := sets.New[path]()
	for _, k := range kinds {
		for _, s := range k.Subresources {
			if s.Update == nil {
				long.Insert(path{k.Resource(), s.Name})
			}
		}
	}
	return func(_ *http.Request, info *request.RequestInfo) bool {
		return info.Verb == "watch" || info.IsResourceRequest && info.Subresource != "" &&
			long.Has(path{schema.GroupResource{Group: info.APIGroup, Resource: info.Resource}, info.Subresource})
	}
}

// chain is the usual handler chain, and last what prepared does.
func chain(kinds []*kind.Kind) func(http.Handler, *genericapiserver.Config) http.Handler {
	prepare := prepared(kinds)
	return func(next http.Handler, c *genericapiserver.Config) http.Handler {
		return genericapiserver.DefaultBuildHandlerChain(prepare(next, c.Serializer), c)
	}
}

// prepared stands before the handlers of the API. It has clients answered in a media type that
// the kind has, and warns of versions that are deprecated.
func prepared(kinds []*kind.Kind) func(http.Handler, runtime.NegotiatedSerializer) http.Handler {
	warnings := map[schema.GroupVersionResource]string{}
	protobuf := sets.New[schema.GroupResource]()
	groups := sets.New[string]()
	for _, k := range kinds {
		groups.Insert(k.Hub.Group)
		if codec.HasProtobuf(k.New()) && codec.HasProtobuf(k.NewList()) {
			protobuf.Insert(k.Resource())
		}
		for _, s := range k.Spokes {
			if s.Deprecated != "" {
				warnings[k.Resource().WithVersion(s.Version)] = s.Deprecated
			}
		}
	}
	return func(next http.Handler, media runtime.NegotiatedSerializer) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if info, ok := request.RequestInfoFrom(r.Context()); ok && info.IsResourceRequest && groups.Has(info.APIGroup) {
				resource := schema.GroupResource{Group: info.APIGroup, Resource: info.Resource}
				codec.Acceptable(r.Header, protobuf.Has(resource), utilfeature.DefaultFeatureGate.Enabled(features.CBORServingAndStorage))
				if text := warnings[resource.WithVersion(info.APIVersion)]; text != "" {
					warning.AddWarning(r.Context(), "", text)
				}
			}
			defer answerPanic(w, r, media)
			next.ServeHTTP(w, r)
		})
	}
}

// answerPanic answers with 500 where a conversion panicked while a body was read, which is
// logged already. Any other panic goes on to the usual chain.
func answerPanic(w http.ResponseWriter, r *http.Request, media runtime.NegotiatedSerializer) {
	switch p := recover().(type) {
	case nil:
	case *versions.PanicError:
		responsewriters.ErrorNegotiated(apierrors.NewInternalError(p), media, schema.GroupVersion{}, w, r)
	default:
		panic(p)
	}
}
