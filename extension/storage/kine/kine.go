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
// running. It is called again, after a pause and with another ctx, until it succeeds.
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
	running.Go(func() { s.open(ctx, log, &running, open, o) })
	return &storage.Endpoint{
		Name: name,
		// The process knows endpoints by their targets, and two of the same name are two.
		Targets: []string{fmt.Sprintf("http://kine-%p", s)},
		Dial:    func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) },
		Check:   s.check,
		Close: func() error {
			cancel()
			g.Stop()
			running.Wait()
			return nil
		},
	}
}

// open tries until the database is open or ctx ends.
func (s *service) open(ctx context.Context, log logr.Logger, running *sync.WaitGroup, open Open, o Options) {
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		backend, err := s.attempt(ctx, running, open)
		if err == nil {
			backend = &ascending{Backend: backend}
			s.opened(&bridge{server.New(backend, "http", o.NotifyInterval, version), backend})
			return
		}
		if ctx.Err() != nil {
			return
		}
		s.opening(err)
		log.Error(err, "Storage cannot be opened; it is tried again", "storage", s.name, "after", pause.String())
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

// attempt opens the database once. An attempt that fails leaves nothing running.
func (s *service) attempt(ctx context.Context, running *sync.WaitGroup, open Open) (_ server.Backend, err error) {
	ctx, cancel := context.WithCancel(ctx)
	var started sync.WaitGroup
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic while opening: %v", p)
		}
		if err != nil {
			cancel()
			started.Wait()
			return
		}
		running.Go(func() {
			defer cancel()
			<-ctx.Done()
			started.Wait()
		})
	}()
	return open(ctx, &started)
}
