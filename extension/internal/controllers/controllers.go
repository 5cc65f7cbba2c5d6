// Package controllers runs reconcilers beside a server or alone.
package controllers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/annex-api/annex/extension/internal/kind"
)

const (
	// stopTimeout is how long running reconciliations have to end.
	stopTimeout = 30 * time.Second
	// firstPause is before controllers that ended by themselves start again. It doubles up
	// to longestPause, and is the first one again after they really ran, and for longer
	// than that.
	firstPause, longestPause = time.Second, time.Minute
)

// Setup adds one controller to a manager. It is called again with another one where
// controllers start anew.
type Setup struct {
	Name string
	Add  func(manager.Manager) error
}

// Options are what controllers run with.
type Options struct {
	// Config reaches all kinds that they work with.
	Config *rest.Config
	Scheme *runtime.Scheme
	// Kinds are the server's own.
	Kinds []*kind.Kind
	// Lease is by which one of several replicas leads; without a name there is no election.
	Lease types.NamespacedName
	// MetricsAddress is where their metrics are, HealthAddress where /healthz, /livez and
	// /readyz are, by plain HTTP; nowhere if empty.
	MetricsAddress, HealthAddress string
	// Health is told whether they run; nil: nobody asks but at HealthAddress.
	Health *Health
	// Ready is closed once the server can be called that they work with; nil: it can.
	Ready <-chan struct{}
	Log   logr.Logger
}

// errNotStarted is why controllers do not run that nothing else is known of.
var errNotStarted = errors.New("they have not started yet")

// runner is what Run runs: a manager.
type runner interface {
	// Start runs until ctx ends, or something fails. Meanwhile report is told each time
	// whether they do what they are for: nil, or what keeps them.
	Start(ctx context.Context, report func(error)) error
}

// Controllers are controllers that have been set up.
type Controllers struct {
	options Options
	// first is the runner that New has set up; again sets up another one.
	first runner
	again func() (runner, error)
	// listener is that of HealthAddress, nil without one.
	listener net.Listener
}

// New sets controllers up. It calls no server. Who does not call Run calls Close.
func New(o Options, setups ...Setup) (*Controllers, error) {
	if o.Health == nil {
		o.Health = &Health{}
	}
	o.Health.set(errNotStarted)
	c := &Controllers{options: o, again: func() (runner, error) { return setUp(o, setups) }}
	var err error
	if c.first, err = c.again(); err != nil {
		return nil, err
	}
	if o.HealthAddress == "" {
		return c, nil
	}
	if c.listener, err = net.Listen("tcp", o.HealthAddress); err != nil {
		return nil, fmt.Errorf("serve the health of controllers on %s: %w", o.HealthAddress, err)
	}
	return c, nil
}

func setUp(o Options, setups []Setup) (runner, error) {
	metrics := metricsserver.Options{BindAddress: "0"}
	if o.MetricsAddress != "" {
		metrics.BindAddress = o.MetricsAddress
	}
	stop := stopTimeout
	p := &progress{filling: map[string]bool{}}
	lock, err := lease(o, p)
	if err != nil {
		return nil, err
	}
	settings := manager.Options{
		Scheme:                        o.Scheme,
		MapperProvider:                mapper(o.Kinds),
		NewCache:                      p.cache,
		Logger:                        o.Log,
		LeaderElection:                lock != nil,
		LeaderElectionReleaseOnCancel: true,
		Metrics:                       metrics,
		HealthProbeBindAddress:        "0", // it would be gone whenever controllers start anew
		GracefulShutdownTimeout:       &stop,
		// Several servers of one process may have controllers of one name.
		Controller: config.Controller{SkipNameValidation: new(true)},
	}
	if lock != nil {
		settings.LeaderElectionResourceLockInterface = lock
	}
	m, err := manager.New(o.Config, settings)
	if err != nil {
		return nil, fmt.Errorf("make the manager of controllers: %w", err)
	}
	if lock != nil {
		lock.events(m)
	}
	var errs []error
	for _, s := range setups {
		if err := s.Add(m); err != nil {
			errs = append(errs, fmt.Errorf("set up the controller %s: %w", s.Name, err))
		}
	}
	return managed{m, p}, errors.Join(errs...)
}

// Run runs them until ctx ends, and waits for reconciliations that run. Controllers that
// end by themselves, because a lease was lost or something cannot be watched, start anew:
// whoever only calls the server needs none of that, and goes on.
func (c *Controllers) Run(ctx context.Context) error {
	if c.listener != nil {
		defer serveHealth(c.listener, c.options.Health)()
	}
	if c.options.Ready != nil {
		select {
		case <-c.options.Ready:
		case <-ctx.Done():
			return nil
		}
	}
	next, pause := c.first, firstPause
	for {
		begun := time.Now()
		ran, err := c.run(ctx, next)
		if ctx.Err() != nil {
			return nil
		}
		if ran && time.Since(begun) > longestPause {
			pause = firstPause
		}
		c.options.Health.set(err)
		c.options.Log.Error(err, "Controllers ended, and start anew", "after", pause.String())
		if !sleep(ctx, pause) {
			return nil
		}
		pause = min(2*pause, longestPause)
		next = nil
	}
}

// run runs next, or one that it sets up, until that ends. Their health stays what it was
// until they say how they are. It says whether they ever really ran.
func (c *Controllers) run(ctx context.Context, next runner) (ran bool, err error) {
	if next == nil {
		if next, err = c.again(); err != nil {
			return false, err
		}
	}
	var well atomic.Bool
	err = next.Start(ctx, func(err error) {
		if err == nil {
			well.Store(true)
		}
		c.options.Health.set(err)
	})
	if err == nil {
		err = errors.New("they ended without an error")
	}
	return well.Load(), err
}

// Close ends what New opened, if Run is not called.
func (c *Controllers) Close() error {
	if c.listener == nil {
		return nil
	}
	return c.listener.Close()
}

// sleep waits, and says whether ctx goes on.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
