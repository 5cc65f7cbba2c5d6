// Package registration keeps the APIServices of a server registered at its host, with
// the CA that the server has now.
//
// Nothing is registered before the server is ready, and nothing is removed when it
// stops: a restart is no uninstallation. An APIService goes with the ClusterRole that
// owns it.
package registration

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	rbacclient "k8s.io/client-go/kubernetes/typed/rbac/v1"
	apiserviceclient "k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset/typed/apiregistration/v1"
)

// The priorities of a group and a version that ask for none.
const (
	DefaultGroupPriorityMinimum = 1000
	DefaultVersionPriority      = 15
)

// Options says what is registered, and where.
type Options struct {
	// Name is the server's. It is part of the field manager, so that servers do not
	// take each other's fields.
	Name        string
	APIServices []APIService
	// Service is the server's own, Port 443 if it is zero.
	Service types.NamespacedName
	Port    int32
	// GroupPriorityMinimum is the same for all of them, as hosts take the highest.
	GroupPriorityMinimum int32
	// Owner is the ClusterRole whose deletion takes the APIServices along; none if empty.
	Owner string
	// Bundle gives the CAs of the server, PEM, and a channel that is closed when they
	// change. Where it gives none, the caBundle is left to somebody else.
	Bundle func() (pem []byte, changed <-chan struct{})
	// Ready is closed once the server can be called.
	Ready <-chan struct{}
	// Refusals is told which APIServices cannot be registered.
	Refusals *Refusals

	Client apiserviceclient.APIServiceInterface
	// ClusterRoles is needed to look up the owner.
	ClusterRoles rbacclient.ClusterRoleInterface
	Log          logr.Logger
}

// APIService is one group version.
type APIService struct {
	GroupVersion schema.GroupVersion
	// VersionPriority orders the versions of a group, the highest first.
	VersionPriority int32
	Annotations     map[string]string
}

// Name is the name of the object.
func (a APIService) Name() string { return a.GroupVersion.Version + "." + a.GroupVersion.Group }

// FieldManager is the name under which a server writes its APIServices.
func FieldManager(name string) string { return name + ".extension.annex.dev" }

// SetDefaults fills in what is not set.
func (o *Options) SetDefaults() {
	if o.Port == 0 {
		o.Port = 443
	}
	if o.GroupPriorityMinimum == 0 {
		o.GroupPriorityMinimum = DefaultGroupPriorityMinimum
	}
	services := make([]APIService, len(o.APIServices))
	for i, a := range o.APIServices {
		if a.VersionPriority == 0 {
			a.VersionPriority = DefaultVersionPriority
		}
		services[i] = a
	}
	o.APIServices = services
	if o.Refusals == nil {
		o.Refusals = &Refusals{}
	}
}

// Refusals are the APIServices that are somebody else's. The zero value has none.
type Refusals struct {
	mu      sync.Mutex
	reasons map[string]string
}

// Err says which are refused and why, or nil.
func (r *Refusals) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(r.reasons)) {
		errs = append(errs, fmt.Errorf("APIService %s is not registered: %s", name, r.reasons[name]))
	}
	return errors.Join(errs...)
}

// set notes why an APIService is refused; an empty reason: it is not.
func (r *Refusals) set(name, reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if reason == "" {
		delete(r.reasons, name)
		return
	}
	if r.reasons == nil {
		r.reasons = map[string]string{}
	}
	r.reasons[name] = reason
}

// Validate says what is wrong with options that have their defaults.
func (o *Options) Validate() error {
	var errs []error
	if o.Name == "" {
		errs = append(errs, errors.New("a server needs a name to register"))
	}
	if len(FieldManager(o.Name)) > 128 {
		errs = append(errs, fmt.Errorf("the name %q is too long: as a field manager it has more than 128 characters", o.Name))
	}
	if o.Service.Name == "" || o.Service.Namespace == "" {
		errs = append(errs, fmt.Errorf("the host finds a server by a Service with a namespace: %q is none", o.Service))
	}
	if o.Port < 1 || o.Port > 65535 {
		errs = append(errs, fmt.Errorf("the port %d of the Service is not between 1 and 65535", o.Port))
	}
	if o.GroupPriorityMinimum < 1 || o.GroupPriorityMinimum > 20000 {
		errs = append(errs, fmt.Errorf("the priority %d of the group is not between 1 and 20000", o.GroupPriorityMinimum))
	}
	seen := map[string]bool{}
	for _, a := range o.APIServices {
		switch {
		case a.GroupVersion.Group == "" || a.GroupVersion.Version == "":
			errs = append(errs, fmt.Errorf("%q is no group version that can be registered", a.GroupVersion))
		case seen[a.Name()]:
			errs = append(errs, fmt.Errorf("%s is to be registered twice", a.GroupVersion))
		}
		seen[a.Name()] = true
		if a.VersionPriority < 1 || a.VersionPriority > 1000 {
			errs = append(errs, fmt.Errorf("the priority %d of version %s is not between 1 and 1000", a.VersionPriority, a.GroupVersion))
		}
	}
	if o.Owner != "" && o.ClusterRoles == nil {
		errs = append(errs, fmt.Errorf("the owner %s cannot be looked up without a client for ClusterRoles", o.Owner))
	}
	if o.Client == nil || o.Bundle == nil || o.Ready == nil {
		errs = append(errs, errors.New("client, bundle and readiness must be given"))
	}
	return errors.Join(errs...)
}

// Registration keeps APIServices registered.
type Registration struct{ keepers []*keeper }

// New checks the options. It asks the host nothing.
func New(o Options) (*Registration, error) {
	o.SetDefaults()
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("registration: %w", err)
	}
	r := &Registration{}
	for _, a := range o.APIServices {
		r.keepers = append(r.keepers, &keeper{options: o, apiService: a, log: o.Log.WithValues("APIService", a.Name())})
	}
	return r, nil
}

// Run registers once the server is ready, and keeps what it has registered until ctx
// ends. It is called at most once.
func (r *Registration) Run(ctx context.Context) error {
	var all sync.WaitGroup
	for _, k := range r.keepers {
		all.Go(func() {
			select {
			case <-k.options.Ready:
				k.run(ctx)
			case <-ctx.Done():
			}
		})
	}
	all.Wait()
	return nil
}
