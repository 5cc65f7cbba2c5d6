// Package server puts a generic API server together from kinds and settings, and runs it.
package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/emicklei/go-restful/v3"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/runtime/serializer/cbor"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/features"
	"k8s.io/apiserver/pkg/registry/generic"
	"k8s.io/apiserver/pkg/registry/rest"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/healthz"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	restclient "k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"github.com/annex-api/annex/extension/internal/codec"
	"github.com/annex-api/annex/extension/internal/inprocess"
	"github.com/annex-api/annex/extension/internal/install"
	"github.com/annex-api/annex/extension/internal/kind"
	"github.com/annex-api/annex/extension/internal/openapi"
	"github.com/annex-api/annex/extension/internal/registry"
	"github.com/annex-api/annex/extension/internal/ring"
	"github.com/annex-api/annex/extension/internal/versions"
)

const (
	// deleteWorkers is for what the generic store still does by itself.
	deleteWorkers = 4
	countPeriod   = time.Minute
)

// Storage is an opened place where objects are kept.
type Storage interface {
	Decorator() generic.StorageDecorator
	// Ready says why nothing can be stored now, or nil.
	Ready() error
	Close() error
}

// Declared are kinds, with what opens and describes them.
type Declared struct {
	Kinds []*kind.Kind
	// Views open those of Kinds that are not stored. The typer knows all kinds.
	Views map[*kind.Kind]func(runtime.ObjectTyper) (View, error)
	// OpenAPI describes the kinds.
	OpenAPI *openapi.Definitions
}

// Config is what a server is made of.
type Config struct {
	Declared
	Name string
	// Storage is nil if no kind is stored. The server closes it.
	Storage Storage
	// Prefix is the key below which everything is stored.
	Prefix string
	// Serving sets SecureServing; nil serves in process alone.
	Serving func(*genericapiserver.Config) error
	// Identity sets authentication and authorization. SecureServing is set before.
	Identity func(context.Context, *genericapiserver.Config) error
	// Policies sets admission and fairness, Audit what is written down; nil leaves them out.
	Policies, Audit func(*genericapiserver.Config) error
	// Checks are parts of /readyz. HealthChecks are parts of /healthz alone: what they are
	// about is no reason to restart the server or to send nobody there.
	Checks, HealthChecks []healthz.HealthChecker
	// RequestTimeout bounds requests that are not long-running.
	RequestTimeout time.Duration
	// StopDelay is how long a stop goes on serving after readiness is withdrawn, and Drain
	// how long it then waits for watches, actions and streams.
	StopDelay, Drain time.Duration
}

// View is a kind that is not stored, as it is served.
type View struct {
	Resource registry.Viewed
	// Run keeps it current until its context ends.
	Run Background
}

// Attributes gives what selectors of a kind are matched against.
func Attributes(k *kind.Kind) storage.AttrFunc { return registry.Attributes(k) }

// Server is a generic API server with its kinds.
type Server struct {
	generic *genericapiserver.GenericAPIServer
	// prepared is what installs the last routes; it is made once, by New.
	prepared interface {
		RunWithContext(ctx context.Context) error
	}
	listener *inprocess.Listener
	storage  Storage
	sessions *registry.Sessions
	views    []Background
	ready    chan struct{}

	stopDelay, drain time.Duration
}

// New makes a server. It opens no connection of its own but those of Storage.
func New(ctx context.Context, c Config) (*Server, error) {
	scheme, err := versions.Scheme(c.Kinds...)
	if err != nil {
		return nil, err
	}
	codecs := serializer.NewCodecFactory(scheme)
	if len(c.Views) > 0 && !ring.SupportWatchList(ctx) {
		klog.FromContext(ctx).Info("An etcd of this process is too old for watches with initial events: no kind serves them")
	}
	s := &Server{
		listener: inprocess.Listen(), storage: c.Storage, sessions: registry.NewSessions(), ready: make(chan struct{}),
		stopDelay: c.StopDelay, drain: c.Drain,
	}
	config, err := newConfig(ctx, c, s, scheme, codecs)
	if err != nil {
		return nil, err
	}
	if s.generic, err = config.Complete(nil).New(c.Name, genericapiserver.NewEmptyDelegate()); err != nil {
		return nil, fmt.Errorf("make the API server: %w", err)
	}
	// Requests are waited for apart from this, as long as they may take.
	s.generic.ShutdownTimeout = drainTimeout
	if _, err := s.install(c, config, scheme, codecs); err != nil {
		s.generic.Destroy()
		return nil, err
	}
	s.prepared = s.generic.PrepareRun()
	return s, nil
}

func newConfig(ctx context.Context, c Config, s *Server, scheme *runtime.Scheme, codecs serializer.CodecFactory) (*genericapiserver.Config, error) {
	config := genericapiserver.NewConfig(codecs)
	config.EffectiveVersion = effectiveVersion()
	config.EnableProfiling = false
	config.RequestTimeout = c.RequestTimeout
	config.ShutdownWatchTerminationGracePeriod = c.Drain
	config.LongRunningFunc = longRunning(c.Kinds)
	config.BuildHandlerChainFunc = chain(c.Kinds)
	config.OpenAPIConfig, config.OpenAPIV3Config = c.OpenAPI.V2(c.Name), c.OpenAPI.V3(c.Name)
	if c.Serving != nil {
		if err := c.Serving(config); err != nil {
			return nil, err
		}
	} else {
		config.SecureServing = &genericapiserver.SecureServingInfo{Listener: inprocess.Listen()}
		config.ExternalAddress = inprocess.Address
	}
	// The server's requests to itself have no port to go by.
	var err error
	if config.LoopbackClientConfig, err = s.As(&user.DefaultInfo{Name: user.APIServerUser, Groups: []string{user.SystemPrivilegedGroup}}); err != nil {
		return nil, err
	}
	if err := c.Identity(ctx, config); err != nil {
		return nil, err
	}
	for _, set := range []func(*genericapiserver.Config) error{c.Policies, c.Audit} {
		if set == nil {
			continue
		}
		if err := set(config); err != nil {
			return nil, err
		}
	}
	if c.Storage != nil {
		config.AddReadyzChecks(storageCheck{c.Storage})
	}
	config.AddReadyzChecks(c.Checks...)
	config.HealthzChecks = append(config.HealthzChecks, c.HealthChecks...)
	return config, nil
}

// install puts the kinds on the server, and gives the services that they are.
func (s *Server) install(c Config, config *genericapiserver.Config, scheme *runtime.Scheme, codecs serializer.CodecFactory) ([]*restful.WebService, error) {
	var served []install.Served
	for _, k := range c.Kinds {
		storage, err := s.open(c, config, k, scheme, codecs)
		if err != nil {
			return nil, fmt.Errorf("%s of %s: %w", k.Names.Kind, k.Hub, err)
		}
		s.generic.RegisterDestroyFunc(func() {
			for _, each := range storage {
				each.Destroy()
			}
		})
		served = append(served, install.Served{Group: k.Hub.Group, Versions: k.Served(), Storage: storage})
	}
	types, err := c.OpenAPI.TypeConverter()
	if err != nil {
		return nil, err
	}
	kinds := codec.NewKinds(scheme, c.Kinds...)
	objects := install.Objects{Kinds: kinds, Serializer: kinds.Serializer(negotiated(scheme)), Lossless: kinds.Lossless(), Types: types}
	settings := install.Settings{
		Admission:           registry.Whole(config.AdmissionControl, c.Kinds...),
		MinRequestTimeout:   time.Duration(config.MinRequestTimeout) * time.Second,
		MaxRequestBodyBytes: config.MaxRequestBodyBytes,
	}
	services, err := install.Kinds(s.generic, objects, settings, served)
	if err != nil {
		return nil, err
	}
	return services, errors.Join(c.OpenAPI.NameSamples(services...), c.OpenAPI.Check(services...))
}

// negotiated are the media types of objects. CBOR is among them where the process has
// the gate CBORServingAndStorage on; it is alpha.
func negotiated(scheme *runtime.Scheme) runtime.NegotiatedSerializer {
	options := []serializer.CodecFactoryOptionsMutator{
		serializer.WithStreamingCollectionEncodingToJSON(),
		serializer.WithStreamingCollectionEncodingToProtobuf(),
	}
	if utilfeature.DefaultFeatureGate.Enabled(features.CBORServingAndStorage) {
		options = append(options, serializer.WithSerializer(cbor.NewSerializerInfo))
	}
	return serializer.NewCodecFactory(scheme, options...)
}

// open gives the storage of a kind and of its subresources.
func (s *Server) open(c Config, config *genericapiserver.Config, k *kind.Kind, scheme *runtime.Scheme, codecs serializer.CodecFactory) (map[string]rest.Storage, error) {
	options := registry.Options{Scheme: scheme, Allow: config.Authorization.Authorizer, Sessions: s.sessions}
	open, ok := c.Views[k]
	if !ok {
		options.Storage = restOptions(c, config, k, scheme, codecs)
		return registry.New(k, options)
	}
	v, err := open(scheme)
	if err != nil {
		return nil, err
	}
	s.views = append(s.views, v.Run)
	return registry.View(k, v.Resource, options), nil
}

func restOptions(c Config, config *genericapiserver.Config, k *kind.Kind, scheme *runtime.Scheme, codecs serializer.CodecFactory) generic.RESTOptions {
	stored := versions.StorageCodec(scheme, codecs, k)
	if k.Untyped != nil {
		stored = codec.NewKinds(scheme, k).Storage(k)
	}
	backend := storagebackend.NewDefaultConfig(c.Prefix, stored)
	backend.EncodeVersioner = schema.GroupVersion{Group: k.Hub.Group, Version: k.StorageVersion}
	return generic.RESTOptions{
		StorageConfig:             backend.ForResource(k.Resource()),
		Decorator:                 c.Storage.Decorator(),
		EnableGarbageCollection:   true,
		DeleteCollectionWorkers:   deleteWorkers,
		ResourcePrefix:            "/" + k.Hub.Group + "/" + k.Names.Plural,
		CountMetricPollPeriod:     countPeriod,
		StorageObjectCountTracker: config.StorageObjectCountTracker,
	}
}

// As gives a client configuration that reaches the server in process.
func (s *Server) As(who user.Info) (*restclient.Config, error) { return s.listener.Client(who) }

// Handler is the whole server.
func (s *Server) Handler() http.Handler { return s.generic.Handler }

// Address is where the server listens; nil if it serves in process alone.
func (s *Server) Address() net.Addr {
	if a, ok := s.generic.SecureServingInfo.Listener.Addr().(*net.TCPAddr); ok {
		return a
	}
	return nil
}

// Ready is closed once /readyz passes for the first time.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// storageCheck is a part of /readyz.
type storageCheck struct{ storage Storage }

func (storageCheck) Name() string                  { return "storage" }
func (c storageCheck) Check(r *http.Request) error { return c.storage.Ready() }

// Close ends what New opened, if Run is not called.
func (s *Server) Close() error {
	s.generic.Destroy()
	err := s.listener.Close()
	if s.storage != nil {
		err = errors.Join(err, s.storage.Close())
	}
	return err
}
