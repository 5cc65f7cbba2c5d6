// Package admission puts the admission plugins that the host has objects for, and its
// priority and fairness, on a generic API server.
package admission

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
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

// Auto means: as far as the host has it and lets this server. On means: if the host has
// it. Where the host does not let this server see it, it is not ready until it does.
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
	started chan struct{}
	// waiting says what this server needs and may not see, as of its start.
	waiting []string
}

// Run starts the informers, and ends them with ctx. Those that serve the parameters of
// policies end when the server has drained, and are waited for.
func (i *Informers) Run(ctx context.Context) error {
	i.factory.StartWithContext(ctx)
	close(i.started)
	<-ctx.Done()
	i.factory.Shutdown()
	return nil
}

// Name implements healthz.HealthChecker.
func (i *Informers) Name() string { return "host-policies" }

// Check says what of the host's policies is not known yet. A server that served without
// them would let pass what they forbid.
func (i *Informers) Check(*http.Request) error {
	select {
	case <-i.started:
	default:
		return errors.New("the host's policies are not asked for yet")
	}
	over, cancel := context.WithCancel(context.Background())
	cancel() // it is to say how it stands now
	var missing []string
	for what, synced := range i.factory.WaitForCacheSync(over.Done()) {
		if !synced {
			missing = append(missing, what.String())
		}
	}
	if len(missing) == 0 {
		return nil
	}
	slices.Sort(missing)
	return fmt.Errorf("not seen yet: %s; at the start: %s", strings.Join(missing, ", "), cmp.Or(strings.Join(i.waiting, "; "), "no right was missing"))
}

// Apply sets up a config whose version and authorization are set. What cannot be on is
// off, with one line that says why. The server is ready once it sees what is on.
func Apply(c *genericapiserver.Config, o Options) (*Informers, error) {
	i := &Informers{
		factory: informers.NewSharedInformerFactoryWithOptions(o.Client, resync, informers.WithTransform(withoutManagedFields)),
		started: make(chan struct{}),
	}
	if err := i.applyPlugins(c, o); err != nil {
		return nil, err
	}
	if i.decide(o, o.Fairness, "Priority and fairness", host.Fairness) {
		c.FlowControl = utilflowcontrol.New(i.factory, o.Client.FlowcontrolV1(), c.MaxRequestsInFlight+c.MaxMutatingRequestsInFlight)
	}
	c.AddReadyzChecks(i)
	return i, nil
}

func (i *Informers) applyPlugins(c *genericapiserver.Config, o Options) error {
	admission := options.NewAdmissionOptions()
	enabled := 0
	for _, p := range plugins {
		if i.decide(o, o.Admission, "Admission plugin "+p.name, p.feature) {
			enabled++
		} else {
			admission.DisablePlugins = append(admission.DisablePlugins, p.name)
		}
	}
	if err := errors.Join(admission.Validate()...); err != nil {
		return err
	}
	if enabled == 0 {
		return nil
	}
	if err := admission.ApplyTo(c, i.factory, o.Client, o.Dynamic, utilfeature.DefaultFeatureGate, c.EffectiveVersion); err != nil {
		return fmt.Errorf("set up admission: %w", err)
	}
	return nil
}

// decide says whether something is on, and logs why not, or what it waits for.
func (i *Informers) decide(o Options, mode Mode, what string, feature host.Feature) bool {
	state := o.Verdict.State(feature)
	switch {
	case mode == Off:
		return false
	case state.On:
		return true
	case mode == On && state.Served:
		o.Log.Info(what+" must be on: the server is not ready before it may see what that needs", "reason", state.Why)
		if !slices.Contains(i.waiting, state.Why) {
			i.waiting = append(i.waiting, state.Why)
		}
		return true
	}
	o.Log.Info(what+" is off", "reason", state.Why)
	return false
}

// withoutManagedFields drops what admission does not read, from what is kept in memory.
func withoutManagedFields(obj any) (any, error) {
	if m, err := meta.Accessor(obj); err == nil {
		m.SetManagedFields(nil)
	}
	return obj, nil
}
