package extension

import (
	"context"
	"errors"

	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/rest"

	"github.com/annex-api/annex/extension/internal/controllers"
	"github.com/annex-api/annex/extension/internal/versions"
)

// ControllerUser is the name under which controllers call a server of their own process.
const ControllerUser = "system:extension:controller"

// Controllers are the controllers of a server without the server: a Deployment of their
// own, which reaches all kinds by the host.
type Controllers struct {
	inner  *controllers.Controllers
	health *controllers.Health
}

// NewControllers sets up the controllers among parts. Of the configuration it needs Name,
// Host, LeaderElection, ControllerMetrics, ControllerHealth and Log. It calls no server.
// Whoever does not call Run calls Close.
func NewControllers(c Config, parts ...Part) (*Controllers, error) {
	c = c.WithDefaults()
	a, err := assemble(parts)
	errs := []error{err, c.Validate()}
	if c.Host == nil {
		errs = append(errs, errors.New("configuration: Host: controllers without their server reach everything by it"))
	}
	if len(a.controllers) == 0 {
		errs = append(errs, errors.New("there is no Controller among the parts"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	fast := rest.CopyConfig(c.Host)
	if fast.QPS == 0 {
		fast.QPS = -1 // the host's own priority and fairness is the limit
	}
	health := &controllers.Health{}
	inner, err := c.setUpControllers(a, controllers.Options{Config: fast, Health: health})
	if err != nil {
		return nil, err
	}
	return &Controllers{inner: inner, health: health}, nil
}

// Run runs them until ctx ends, and waits for reconciliations that run. What ends before
// that, such as by a lost lease, starts anew.
func (c *Controllers) Run(ctx context.Context) error { return c.inner.Run(ctx) }

// Healthy says why they do not run, or nil.
func (c *Controllers) Healthy() error { return c.health.Err() }

// Close ends what NewControllers opened, if Run is not called.
func (c *Controllers) Close() error { return c.inner.Close() }

// controllersBeside are those that run in the process of their server, and reach its
// kinds in it.
func (c Config) controllersBeside(a *assembly, s *Server, health *controllers.Health) (*controllers.Controllers, error) {
	own, err := s.inner.As(&user.DefaultInfo{Name: ControllerUser, Groups: []string{user.SystemPrivilegedGroup}})
	if err != nil {
		return nil, err
	}
	options := controllers.Options{Config: own, Health: health, Ready: s.Ready()}
	if c.Host != nil {
		var groups []string
		for _, k := range a.kinds {
			groups = append(groups, k.Hub.Group)
		}
		if options.Config, err = controllers.Both(c.Host, own, groups); err != nil {
			return nil, err
		}
	}
	return c.setUpControllers(a, options)
}

func (c Config) setUpControllers(a *assembly, o controllers.Options) (*controllers.Controllers, error) {
	var err error
	if o.Scheme, err = versions.ClientScheme(a.kinds...); err != nil {
		return nil, err
	}
	if o.Lease, err = c.lease(); err != nil {
		return nil, err
	}
	o.Kinds = a.kinds
	o.MetricsAddress, o.HealthAddress, o.Log = c.ControllerMetrics, c.ControllerHealth, c.Log
	return controllers.New(o, a.controllers...)
}
