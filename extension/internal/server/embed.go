package server

import (
	"context"
	"net/http"

	"github.com/emicklei/go-restful/v3"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	genericapiserver "k8s.io/apiserver/pkg/server"

	"github.com/annex-api/annex/extension/internal/registry"
	"github.com/annex-api/annex/extension/internal/versions"
)

// Embed puts kinds that are not stored on a server that others made of config, and run. What
// it gives keeps them current until its context ends. The server destroys them.
func Embed(on *genericapiserver.GenericAPIServer, config *genericapiserver.Config, d Declared) (Background, error) {
	scheme, err := versions.Scheme(d.Kinds...)
	if err != nil {
		return nil, err
	}
	s := &Server{generic: on, sessions: registry.NewSessions()}
	services, err := s.install(Config{Declared: d}, config, scheme, serializer.NewCodecFactory(scheme))
	if err != nil {
		return nil, err
	}
	prepare := prepared(d.Kinds)
	for _, service := range services {
		service.Filter(restful.HttpMiddlewareHandlerToFilter(func(next http.Handler) http.Handler {
			return prepare(next, config.Serializer)
		}))
	}
	return s.refresh, nil
}

// refresh keeps what is not stored current until ctx ends, or one of it fails.
func (s *Server) refresh(ctx context.Context) error {
	all, ctx := errgroup.WithContext(ctx)
	for _, run := range s.views {
		all.Go(func() error {
			if err := run(ctx); ctx.Err() == nil {
				return err
			}
			return nil
		})
	}
	return all.Wait()
}
