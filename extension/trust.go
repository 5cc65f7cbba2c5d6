package extension

import (
	"context"
	"fmt"

	"k8s.io/apiserver/pkg/authentication/user"
	genericapiserver "k8s.io/apiserver/pkg/server"
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
	"github.com/annex-api/annex/extension/internal/versions"
)

// streamsPerConnection is more than upstream's: all users come through the few
// connections of the host's proxy.
const streamsPerConnection = 1000

// trust is what a server and its host know of each other.
type trust struct {
	certificate *serving.Certificate // nil where nothing is listened on
	client      kubernetes.Interface // nil without a host
	informers   func() *admission.Informers
}

// trust sets up who is believed and what is shown, in settings.
func (c Config) trust(ctx context.Context, a *assembly, settings *server.Config) (*trust, error) {
	t := &trust{informers: func() *admission.Informers { return nil }}
	if c.Host != nil {
		fast := rest.CopyConfig(c.Host)
		fast.QPS = -1 // the host's own priority and fairness is the limit
		client, err := kubernetes.NewForConfig(fast)
		if err != nil {
			return nil, fmt.Errorf("make a client of the host: %w", err)
		}
		t.client = client
		settings.Identity = func(ctx context.Context, config *genericapiserver.Config) error {
			return identity.Delegate(ctx, fast, config)
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
			Admission: admission.Mode(c.Admission), Fairness: admission.Mode(c.Fairness),
			Verdict: verdict, Client: t.client, Dynamic: client, Log: c.Log,
		})
		return err
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
	s := host.Server{Events: len(a.controllers) > 0, Secret: c.Serving.Secret.Name, Namespace: c.Serving.Secret.Namespace}
	if len(a.controllers) > 0 {
		s.Lease = c.Name
	}
	if c.Register != nil {
		s.Namespace, s.Owner = c.Register.Service.Namespace, c.Register.Owner
		for _, gv := range a.groupVersions() {
			s.APIServices = append(s.APIServices, gv.Version+"."+gv.Group)
		}
	}
	return append(s.Rights(), a.rights...)
}

func (s Serving) options(name string) serving.Options {
	return serving.Options{Name: name, CertFile: s.CertFile, KeyFile: s.KeyFile, CAFile: s.CAFile, Folder: s.Folder, Hosts: s.Hosts}
}

// addBackground adds what runs beside the server: the certificate's renewal, the host's
// informers, the registration, the controllers.
func (s *Server) addBackground(c Config, a *assembly, t *trust) error {
	if t.certificate != nil {
		s.background = append(s.background, t.certificate.Run)
	}
	if informers := t.informers(); informers != nil {
		s.background = append(s.background, informers.Run)
	}
	if c.Register != nil {
		r, err := c.registration(a, t, s.Ready())
		if err != nil {
			return err
		}
		s.background = append(s.background, r.Run)
	}
	if len(a.controllers) == 0 {
		return nil
	}
	scheme, err := versions.ClientScheme(a.kinds...)
	if err != nil {
		return err
	}
	own, err := s.inner.As(&user.DefaultInfo{Name: ControllerUser, Groups: []string{user.SystemPrivilegedGroup}})
	if err != nil {
		return err
	}
	options := controllers.Options{Name: c.Name, Config: own, Scheme: scheme, MetricsAddress: c.ControllerMetrics, Ready: s.Ready(), Log: c.Log}
	if c.Host != nil {
		var groups []string
		for _, k := range a.kinds {
			groups = append(groups, k.Hub.Group)
		}
		if options.Config, err = controllers.Both(c.Host, own, groups); err != nil {
			return err
		}
		if c.Register != nil {
			options.LeaseNamespace = c.Register.Service.Namespace
		}
	}
	run, err := controllers.New(options, a.controllers...)
	if err != nil {
		return err
	}
	s.background = append(s.background, run.Run)
	return nil
}

// ControllerUser is the name under which controllers call a server of their own process.
const ControllerUser = "system:extension:controller"

func (c Config) registration(a *assembly, t *trust, ready <-chan struct{}) (*registration.Registration, error) {
	client, err := aggregatorclient.NewForConfig(c.Host)
	if err != nil {
		return nil, fmt.Errorf("make a client of the host: %w", err)
	}
	options := registration.Options{
		Name: c.Name, Service: c.Register.Service, Port: c.Register.Port,
		GroupPriorityMinimum: c.Register.GroupPriorityMinimum, Owner: c.Register.Owner,
		Bundle: t.certificate.Bundle, Ready: ready,
		Client: client.ApiregistrationV1().APIServices(), ClusterRoles: t.client.RbacV1().ClusterRoles(), Log: c.Log,
	}
	for _, gv := range a.groupVersions() {
		options.APIServices = append(options.APIServices, registration.APIService{GroupVersion: gv, VersionPriority: c.Register.VersionPriority})
	}
	options.SetDefaults()
	return registration.New(options)
}
