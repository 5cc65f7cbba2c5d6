package extension

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/rest"

	"github.com/annex-api/annex/extension/internal/server"
	"github.com/annex-api/annex/extension/internal/serving"
	"github.com/annex-api/annex/extension/internal/store"
	"github.com/annex-api/annex/extension/storage"
)

// Server is an extension API server with its controllers. Several may run in one process.
type Server struct {
	inner       *server.Server
	certificate *serving.Certificate // nil where nothing is listened on
	beside      server.Beside
	// unused ends what New made, where the server never runs.
	unused []func()
}

// New makes a server. Everything that is wrong with the parts and the configuration is
// in the error, each fault with its kind and its field. The storage is opened; it need
// not be reachable yet. A host is waited for, up to a minute. Whoever does not call Run
// calls Close.
func New(ctx context.Context, c Config, parts ...Part) (_ *Server, err error) {
	s := &Server{}
	if c.Listener != nil {
		s.unused = append(s.unused, func() { _ = c.Listener.Close() }) // it may be closed already
	}
	defer func() {
		if err != nil {
			s.release()
		}
	}()
	c = c.WithDefaults()
	a, err := assemble(parts)
	errs := []error{err, c.Validate()}
	if len(a.controllers) > 0 {
		_, err := c.lease()
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	documents, err := a.documents()
	if err != nil {
		return nil, err
	}
	settings := server.Config{
		Declared:       server.Declared{Kinds: a.kinds, Views: a.opened(c.Host), OpenAPI: documents},
		Name:           c.Name,
		Prefix:         c.Prefix,
		Audit:          c.Audit.apply,
		RequestTimeout: c.RequestTimeout,
		StopDelay:      max(c.ShutdownDelay, 0),
		Drain:          max(c.Drain, 0),
	}
	trust, err := c.trust(ctx, a, s, &settings)
	if err != nil {
		return nil, err
	}
	s.certificate = trust.certificate
	if len(a.kinds) > len(a.views) {
		if settings.Storage, err = c.openStorage(ctx, a); err != nil {
			return nil, err
		}
	}
	if s.inner, err = server.New(ctx, settings); err != nil {
		if settings.Storage != nil {
			err = errors.Join(err, settings.Storage.Close())
		}
		return nil, fmt.Errorf("make the server %s: %w", c.Name, err)
	}
	if err := s.addBeside(c, a, trust); err != nil {
		return nil, errors.Join(err, s.inner.Close())
	}
	return s, nil
}

// release ends what New made, the last first.
func (s *Server) release() {
	for _, end := range slices.Backward(s.unused) {
		end()
	}
}

func (c Config) openStorage(ctx context.Context, a *assembly) (server.Storage, error) {
	endpoint, err := storage.Open(ctx, c.Storage, c.Log, append(a.drivers, c.Drivers...)...)
	if err != nil {
		return nil, err
	}
	opened, err := store.Open(ctx, endpoint)
	if err != nil {
		return nil, err
	}
	// A kind whose first list fails tries again after a second. A database that is there is
	// open before that.
	_ = wait.PollUntilContextTimeout(ctx, openingPoll, openingWait, true, func(context.Context) (bool, error) {
		return opened.Ready() == nil, nil
	})
	return opened, nil
}

const (
	// openingWait is how long a start waits for its storage, which need not be there.
	openingWait = 300 * time.Millisecond
	openingPoll = 2 * time.Millisecond
)

// Run serves until ctx ends, then stops gracefully: it withdraws readiness, stops
// controllers, ends actions, streams and watches, finishes requests, and closes the
// storage. It gives nil after that, and an error if it could not go on. It is called once.
func (s *Server) Run(ctx context.Context) error { return s.inner.Run(ctx, s.beside) }

// Close ends what New opened, if Run is not called.
func (s *Server) Close() error {
	err := s.inner.Close()
	s.release()
	return err
}

// Ready is closed once /readyz passes for the first time.
func (s *Server) Ready() <-chan struct{} { return s.inner.Ready() }

// Address is where the server listens; nil if it serves in process alone.
func (s *Server) Address() net.Addr { return s.inner.Address() }

// Handler is the whole server as a handler, for who brings the listener. Requests are
// authenticated as they are at the server's own.
func (s *Server) Handler() http.Handler { return s.inner.Handler() }

// As gives a client configuration that reaches the server in process, without a port and
// without TLS, as the given user. What that user may do is decided as for any other.
func (s *Server) As(who Caller) (*rest.Config, error) { return s.inner.As(who.info()) }

func (c Caller) info() *user.DefaultInfo {
	return &user.DefaultInfo{Name: c.Name, UID: c.UID, Groups: c.Groups, Extra: c.Extra}
}
