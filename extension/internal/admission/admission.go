// Package admission puts the admission plugins that the host has objects for, and its
// priority and fairness, on a generic API server.
package admission

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apiserver/pkg/admission/plugin/namespace/lifecycle"
	mutatingpolicy "k8s.io/apiserver/pkg/admission/plugin/policy/mutating"
	validatingpolicy "k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	mutatingwebhook "k8s.io/apiserver/pkg/admission/plugin/webhook/mutating"
	validatingwebhook "k8s.io/apiserver/pkg/admission/plugin/webhook/validating"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/options"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	utilflowcontrol "k8s.io/apiserver/pkg/util/flowcontrol"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"

	"github.com/annex-api/annex/extension/internal/host"
)

// Mode says whether something is on.
type Mode int

// Auto means: as far as the host has it and lets this server. On makes it an error if
// the host has it and does not let this server.
const (
	Auto Mode = iota
	On
	Off
)

// Options says what to set up.
type Options struct {
	Admission, Fairness Mode
	// Verdict is the host's, for the rights of this server.
	Verdict host.Verdict
	// Client and Dynamic lead to the host.
	Client  kubernetes.Interface
	Dynamic dynamic.Interface
	Log     logr.Logger
}

// plugins are those that k8s.io/apiserver has, with what each needs.
var plugins = [...]struct {
	name    string
	feature host.Feature
}{
	{lifecycle.PluginName, host.NamespaceLifecycle},
	{mutatingpolicy.PluginName, host.MutatingPolicies},
	{mutatingwebhook.PluginName, host.Webhooks},
	{validatingpolicy.PluginName, host.ValidatingPolicies},
	{validatingwebhook.PluginName, host.Webhooks},
}

// resync is how often informers hand out what they have.
const resync = 10 * time.Minute

// Informers see the host's objects. They must run as long as the server does.
type Informers struct {
	factory informers.SharedInformerFactory
}

// Run starts the informers, and ends them with ctx. Those that serve the parameters of
// policies end when the server has drained, and are waited for.
func (i *Informers) Run(ctx context.Context) error {
	i.factory.StartWithContext(ctx)
	<-ctx.Done()
	i.factory.Shutdown()
	return nil
}

// Apply sets up a config whose version and authorization are set. What cannot be on is
// off, with one line that says why.
func Apply(c *genericapiserver.Config, o Options) (*Informers, error) {
	factory := informers.NewSharedInformerFactoryWithOptions(o.Client, resync, informers.WithTransform(withoutManagedFields))
	if err := applyPlugins(c, o, factory); err != nil {
		return nil, err
	}
	on, err := decide(o, o.Fairness, "Priority and fairness", host.Fairness)
	if err != nil {
		return nil, err
	}
	if on {
		c.FlowControl = utilflowcontrol.New(factory, o.Client.FlowcontrolV1(), c.MaxRequestsInFlight+c.MaxMutatingRequestsInFlight)
	}
	return &Informers{factory}, nil
}

func applyPlugins(c *genericapiserver.Config, o Options, factory informers.SharedInformerFactory) error {
	admission := options.NewAdmissionOptions()
	enabled := 0
	var errs []error
	for _, p := range plugins {
		on, err := decide(o, o.Admission, "Admission plugin "+p.name, p.feature)
		errs = append(errs, err)
		if on {
			enabled++
		} else {
			admission.DisablePlugins = append(admission.DisablePlugins, p.name)
		}
	}
	if err := errors.Join(append(errs, admission.Validate()...)...); err != nil {
		return err
	}
	if enabled == 0 {
		return nil
	}
	if err := admission.ApplyTo(c, factory, o.Client, o.Dynamic, utilfeature.DefaultFeatureGate, c.EffectiveVersion); err != nil {
		return fmt.Errorf("set up admission: %w", err)
	}
	return nil
}

// decide says whether something is on, and logs why not.
func decide(o Options, mode Mode, what string, feature host.Feature) (bool, error) {
	state := o.Verdict.State(feature)
	switch {
	case mode == Off:
		return false, nil
	case state.On:
		return true, nil
	case mode == On && state.Served:
		return false, fmt.Errorf("%s must be on, and cannot: %s", what, state.Why)
	}
	o.Log.Info(what+" is off", "reason", state.Why)
	return false, nil
}

// withoutManagedFields drops what admission does not read, from what is kept in memory.
func withoutManagedFields(obj any) (any, error) {
	if m, err := meta.Accessor(obj); err == nil {
		m.SetManagedFields(nil)
	}
	return obj, nil
}
