// Package controllers runs reconcilers beside a server or alone.
package controllers

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

// stopTimeout is how long running reconciliations have to end.
const stopTimeout = 30 * time.Second

// Setup adds one controller to a manager.
type Setup struct {
	Name string
	Add  func(manager.Manager) error
}

// Options are what controllers run with.
type Options struct {
	// Name is that of the lease by which one of several replicas leads.
	Name string
	// Config reaches all kinds that they work with.
	Config *rest.Config
	Scheme *runtime.Scheme
	// LeaseNamespace is where the lease is; empty: no election, as there is one replica.
	LeaseNamespace string
	// MetricsAddress is where their metrics are; empty: nowhere.
	MetricsAddress string
	// Ready is closed once the server can be called that they work with; nil: it can.
	Ready <-chan struct{}
	Log   logr.Logger
}

// Controllers are controllers that have been set up.
type Controllers struct {
	options Options
	manager manager.Manager
	failed  atomic.Pointer[error]
}

// New sets controllers up. It calls no server.
func New(o Options, setups ...Setup) (*Controllers, error) {
	metrics := metricsserver.Options{BindAddress: "0"}
	if o.MetricsAddress != "" {
		metrics.BindAddress = o.MetricsAddress
	}
	stop := stopTimeout
	m, err := manager.New(o.Config, manager.Options{
		Scheme:                        o.Scheme,
		Logger:                        o.Log,
		LeaderElection:                o.LeaseNamespace != "",
		LeaderElectionID:              o.Name,
		LeaderElectionNamespace:       o.LeaseNamespace,
		LeaderElectionReleaseOnCancel: true,
		Metrics:                       metrics,
		HealthProbeBindAddress:        "0",
		GracefulShutdownTimeout:       &stop,
		// Several servers of one process may have controllers of one name.
		Controller: config.Controller{SkipNameValidation: new(true)},
	})
	if err != nil {
		return nil, fmt.Errorf("make the manager of controllers: %w", err)
	}
	var errs []error
	for _, s := range setups {
		if err := s.Add(m); err != nil {
			errs = append(errs, fmt.Errorf("set up the controller %s: %w", s.Name, err))
		}
	}
	return &Controllers{options: o, manager: m}, errors.Join(errs...)
}

// Run runs them until ctx ends, and waits for reconciliations that run. An error before
// that is one that the process cannot go on with, such as a lease that was lost.
func (c *Controllers) Run(ctx context.Context) error {
	if c.options.Ready != nil {
		select {
		case <-c.options.Ready:
		case <-ctx.Done():
			return nil
		}
	}
	if err := c.manager.Start(ctx); err != nil {
		err = fmt.Errorf("run controllers: %w", err)
		c.failed.Store(&err)
		return err
	}
	return nil
}

// Healthy says why they do not run, or nil.
func (c *Controllers) Healthy() error {
	if err := c.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// Both reaches the groups of own through one configuration and everything else through
// another: a controller in the process of its server needs no way around by the host.
func Both(host, own *rest.Config, groups []string) (*rest.Config, error) {
	inside, err := rest.TransportFor(own)
	if err != nil {
		return nil, fmt.Errorf("reach the server in process: %w", err)
	}
	out := rest.CopyConfig(host)
	out.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			for _, g := range groups {
				if rest, ok := strings.CutPrefix(r.URL.Path, "/apis/"+g); ok && (rest == "" || rest[0] == '/') {
					r = r.Clone(r.Context())
					r.Header.Del("Authorization")
					r.URL.Scheme, r.URL.Host, r.Host = "http", strings.TrimPrefix(own.Host, "http://"), ""
					return inside.RoundTrip(r)
				}
			}
			return next.RoundTrip(r)
		})
	})
	return out, nil
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
