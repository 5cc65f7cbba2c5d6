package extension

import (
	"context"
	"fmt"
	"net/http"

	"k8s.io/apiserver/pkg/authentication/user"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/healthz"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	aggregatorclient "k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset"

	"github.com/annex-api/annex/extension/internal/admission"
	"github.com/annex-api/annex/extension/internal/controllers"
	"github.com/annex-api/annex/extension/internal/host"
	"github.com/annex-api/annex/extension/internal/identity"
	"github.com/annex-api/annex/extension/internal/registration"
	"github.com/annex-api/annex/extension/internal/server"
	"github.com/annex-api/annex/extension/internal/serving"
)

// streamsPerConnection is more than upstream's: all users come through the few
// connections of the host's proxy.
const streamsPerConnection = 1000

// trust is what a server and its host know of each other.
type trust struct {
	certificate *serving.Certificate // nil where nothing is listened on
	client      kubernetes.Interface // nil without a host
	informers   func() *admission.Informers
	// refusals and controllers are parts of the server's health.
	refusals    *registration.Refusals
	controllers *controllers.Health
}

// trust sets up who is believed and what is shown, in settings.
func (c Config) trust(ctx context.Context, a *assembly, s *Server, settings *server.Config) (*trust, error) {
	t := &trust{
		informers: func() *admission.Informers { return nil },
		refusals:  &registration.Refusals{}, controllers: &controllers.Health{},
	}
	if c.Register != nil {
		settings.Checks = append(settings.Checks, healthz.NamedCheck("registration", func(*http.Request) error { return t.refusals.Err() }))
	}
	if len(a.controllers) > 0 {
		settings.HealthChecks = append(settings.HealthChecks, healthz.NamedCheck("controllers", func(*http.Request) error { return t.controllers.Err() }))
	}
	if c.Host != nil {
		fast := rest.CopyConfig(c.Host)
		fast.QPS = -1 // the host's own priority and fairness is the limit
		client, err := kubernetes.NewForConfig(fast)
		if err != nil {
			return nil, fmt.Errorf("make a client of the host: %w", err)
		}
		t.client = client
		settings.Identity = func(ctx context.Context, config *genericapiserver.Config) error {
			unused, err := identity.Delegate(ctx, fast, config)
			if err == nil {
				s.unused = append(s.unused, unused)
			}
			return err
		}
		t.policies(ctx, c, a, fast, settings)
	} else {
		settings.Identity = func(_ context.Context, config *genericapiserver.Config) error {
			tokens := map[string]user.Info{}
			for token, who := range c.Standalone.Tokens {
				tokens[token] = who.info()
			}
			return identity.Standalone(tokens, config)
		}
	}
	if c.Listener == nil {
		return t, nil
	}
	options := c.Serving.options(c.Name)
	if c.Serving.Secret.Name != "" {
		options.Secret = serving.Secret{Client: t.client.CoreV1().Secrets(c.Serving.Secret.Namespace), Name: c.Serving.Secret.Name}
	}
	if c.Register != nil {
		options.Service = c.Register.Service
	}
	options.Log = c.Log
	options.SetDefaults()
	var err error
	if t.certificate, err = serving.New(ctx, options); err != nil {
		return nil, err
	}
	settings.Serving = func(config *genericapiserver.Config) error {
		config.SecureServing = &genericapiserver.SecureServingInfo{
			Listener: c.Listener, Cert: t.certificate, HTTP2MaxStreamsPerConnection: streamsPerConnection,
		}
		return nil
	}
	return t, nil
}

// policies has the host's admission and fairness apply here, as far as it lets this
// server. What does not is said once, a line for each.
func (t *trust) policies(ctx context.Context, c Config, a *assembly, fast *rest.Config, settings *server.Config) {
	var informers *admission.Informers
	t.informers = func() *admission.Informers { return informers }
	settings.Policies = func(config *genericapiserver.Config) error {
		client, err := dynamic.NewForConfig(fast)
		if err != nil {
			return fmt.Errorf("make a client of the host: %w", err)
		}
		verdict, err := host.Look(ctx, t.client, c.rights(a))
		if err != nil {
			return fmt.Errorf("ask the host what this server may do there: %w", err)
		}
		c.sayMissing(ctx, t, a, client, verdict)
		informers, err = admission.Apply(config, admission.Options{
			Admission: c.Admission.mode(), Fairness: c.Fairness.mode(),
			Verdict: verdict, Client: t.client, Dynamic: client, Log: c.Log,
		})
		return err
	}
}

func (f Feature) mode() admission.Mode {
	switch f {
	case On:
		return admission.On
	case Off:
		return admission.Off
	default:
		return admission.Auto
	}
}

// sayMissing has a line for each right that this server lacks: of those that it always
// needs, and of those to see what the host's policies are parametrised by.
func (c Config) sayMissing(ctx context.Context, t *trust, a *assembly, client dynamic.Interface, verdict host.Verdict) {
	missing := verdict.Missing()
	var groups []string
	for _, k := range a.kinds {
		groups = append(groups, k.Hub.Group)
	}
	params, err := host.Params(ctx, t.client, verdict, groups)
	if err == nil && len(params) > 0 {
		var more host.Verdict
		if more, err = host.Look(ctx, t.client, params); err == nil {
			missing = append(missing, more.Missing()...)
		}
	}
	if err != nil {
		c.Log.Info("What parametrises the host's policies is not known", "err", err.Error())
	}
	for _, m := range missing {
		c.Log.Info("A right is missing", "right", m.String())
	}
}

// rights is what a server of this configuration may have to do at its host.
func (c Config) rights(a *assembly) []host.Right {
	s := host.Server{Events: len(a.controllers) > 0, Secret: c.Serving.Secret}
	if len(a.controllers) > 0 {
		s.Lease, _ = c.lease() // without one, New fails later
	}
	if c.Register != nil {
		s.Owner = c.Register.Owner
		for _, gv := range a.groupVersions() {
			s.APIServices = append(s.APIServices, gv.Version+"."+gv.Group)
		}
	}
	return append(s.Rights(), a.rights...)
}

func (s Serving) options(name string) serving.Options {
	return serving.Options{Name: name, CertFile: s.CertFile, KeyFile: s.KeyFile, CAFile: s.CAFile, Folder: s.Folder, Hosts: s.Hosts}
}

// addBeside adds what runs beside the server: the certificate's renewal, the host's
// informers, the registration, the controllers.
func (s *Server) addBeside(c Config, a *assembly, t *trust) error {
	if t.certificate != nil {
		s.beside.Sources = append(s.beside.Sources, t.certificate.Run)
	}
	if informers := t.informers(); informers != nil {
		s.beside.Sources = append(s.beside.Sources, informers.Run)
	}
	if c.Register != nil {
		r, err := c.registration(a, t, s.Ready())
		if err != nil {
			return err
		}
		s.beside.Callers = append(s.beside.Callers, r.Run)
	}
	if len(a.controllers) == 0 {
		return nil
	}
	run, err := c.controllersBeside(a, s, t.controllers)
	if err != nil {
		return err
	}
	s.beside.Callers = append(s.beside.Callers, run.Run)
	s.unused = append(s.unused, func() { _ = run.Close() }) // it may be closed already
	return nil
}

func (c Config) registration(a *assembly, t *trust, ready <-chan struct{}) (*registration.Registration, error) {
	client, err := aggregatorclient.NewForConfig(c.Host)
	if err != nil {
		return nil, fmt.Errorf("make a client of the host: %w", err)
	}
	options := registration.Options{
		Name: c.Name, Service: c.Register.Service, Port: c.Register.Port,
		GroupPriorityMinimum: c.Register.GroupPriorityMinimum, Owner: c.Register.Owner,
		Bundle: t.certificate.Bundle, Ready: ready, Refusals: t.refusals,
		Client: client.ApiregistrationV1().APIServices(), ClusterRoles: t.client.RbacV1().ClusterRoles(), Log: c.Log,
	}
	for _, gv := range a.groupVersions() {
		options.APIServices = append(options.APIServices, registration.APIService{GroupVersion: gv, VersionPriority: c.Register.VersionPriority})
	}
	options.SetDefaults()
	return registration.New(options)
}
