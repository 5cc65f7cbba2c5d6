// Package kine runs kine's gRPC server in process over one backend, as an endpoint that
// speaks etcd's protocol. The packages below it are drivers: memory, sqlite and postgres.
//
// kine (github.com/k3s-io/kine) keeps what etcd would keep in rows of a database. Its own
// messages go to logrus' standard logger, which is the process's: a library leaves it alone.
package kine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/k3s-io/kine/pkg/server"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/test/bufconn"

	"github.com/annex-api/annex/extension/storage"
)

const (
	// version is that of the etcd whose requests are understood. Below 3.5.13 k8s.io/apiserver
	// would refuse streaming lists, and for the whole process.
	version = "3.7.0"
	// notifyInterval is how often a watch without events tells its revision.
	notifyInterval = 5 * time.Second
	// connectionBuffer is what one side may have written and the other not yet read.
	connectionBuffer = 256 << 10
	// minPingInterval is more often than the etcd client asks whether the connection lives.
	minPingInterval = 5 * time.Second

	// Pauses between two attempts to open the database.
	firstPause = 100 * time.Millisecond
	maxPause   = 5 * time.Second
)

// Open opens the database and starts its backend. What it starts ends with ctx and is counted in
// running. It is called again, after a pause and with another ctx, until it succeeds, and when the backend says
// by a method Lost() <-chan error that it cannot go on. A backend may also have Check(context.Context) error,
// which asks the database itself, and Watched() int64, the revision that its watches have come to.
type Open func(ctx context.Context, running *sync.WaitGroup) (server.Backend, error)

// Options are what tests change.
type Options struct {
	// NotifyInterval is how often a watch without events tells its revision; 0 means five seconds.
	NotifyInterval time.Duration
}

// Start runs kine's server over one database, behind a listener that only this process can reach. It
// does not wait for the database: until that is open, requests are answered with Unavailable.
func Start(name string, log logr.Logger, open Open, o Options) *storage.Endpoint {
	if o.NotifyInterval == 0 {
		o.NotifyInterval = notifyInterval
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &service{name: name}
	s.opening(errors.New("it is being opened"))
	listener := bufconn.Listen(connectionBuffer)
	g := grpc.NewServer(
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPingInterval}),
		grpc.WaitForHandlers(true),
		grpc.UnaryInterceptor(recoverUnary), grpc.StreamInterceptor(recoverStream),
	)
	s.register(g)

	var running sync.WaitGroup
	running.Go(func() {
		// It ends by GracefulStop or Stop alone, and then without an error.
		_ = g.Serve(listener)
	})
	running.Go(func() { s.run(ctx, log, open, o) })
	return &storage.Endpoint{
		Name: name,
		// The process knows endpoints by their targets, and two of the same name are two.
		Targets: []string{fmt.Sprintf("http://kine-%p", s)},
		Dial: func(ctx context.Context, _ string) (net.Conn, error) {
			conn, err := listener.DialContext(ctx)
			if err != nil {
				return nil, err
			}
			return s.connections.add(conn), nil
		},
		Check: s.check,
		Close: func() error {
			cancel()
			g.Stop()
			running.Wait()
			return nil
		},
	}
}

// run opens the database, and opens it again where it is lost, until ctx ends.
func (s *service) run(ctx context.Context, log logr.Logger, open Open, o Options) {
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		backend, end, err := attempt(ctx, open)
		if err == nil {
			s.opened(&bridge{server.New(&ascending{Backend: backend}, "http", o.NotifyInterval, version), backend})
			pause = firstPause
			err = lost(ctx, backend)
			s.opening(err)
			// Watches end with their connections, and begin again in the database as it is then.
			s.connections.close()
			end()
		}
		if ctx.Err() != nil {
			return
		}
		s.opening(err)
		log.Error(err, "Storage cannot be used; it is opened again", "storage", s.name, "after", pause.String())
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

// lost waits until a backend must be opened again, and says why, or until ctx ends.
func lost(ctx context.Context, backend server.Backend) error {
	var reason <-chan error
	if b, ok := backend.(interface{ Lost() <-chan error }); ok {
		reason = b.Lost()
	}
	select {
	case err := <-reason:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// attempt opens the database once. end ends what was started, and waits; an attempt that fails leaves nothing running.
func attempt(ctx context.Context, open Open) (_ server.Backend, end func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	var started sync.WaitGroup
	end = func() {
		cancel()
		started.Wait()
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic while opening: %v", p)
		}
		if err != nil {
			end()
		}
	}()
	backend, err := open(ctx, &started)
	return backend, end, err
}
