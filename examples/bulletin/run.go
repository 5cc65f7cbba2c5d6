package bulletin

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apiserver/pkg/endpoints/openapi"
	"k8s.io/apiserver/pkg/registry/rest"
	genericserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/options"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	"k8s.io/apiserver/pkg/util/compatibility"
	restclient "k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	demov1 "github.com/annex-api/annex/examples/bulletin/v1"
)

const (
	requestTimeout = 30 * time.Second
	// watchDrain bounds how long a stop waits for watches to end.
	watchDrain = 5 * time.Second
)

// Run serves until ctx ends, and then stops gracefully: running requests are
// finished, watches are ended. It gives nil after such a stop, and an error if
// the server could not be started: the options are wrong, the port is taken, or
// the host or etcd does not answer.
func Run(ctx context.Context, o Options) error {
	return run(ctx, o, delegate(o.Kubeconfig))
}

func run(ctx context.Context, o Options, allow access) error {
	if o.Listener != nil {
		defer o.Listener.Close()
	}
	o = o.withDefaults()
	if err := o.Validate(); err != nil {
		return err
	}
	listener, err := listen(o)
	if err != nil {
		return err
	}
	defer listener.Close()
	scheme := newScheme()
	config, err := newConfig(ctx, o, scheme, listener, allow)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	server, err := newServer(config, scheme)
	if err != nil {
		return fmt.Errorf("start on etcd at %v: %w", o.EtcdEndpoints, err)
	}
	prepared := server.PrepareRun()

	var readiness sync.WaitGroup
	defer readiness.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	readiness.Go(func() {
		if announce(ctx, server.LoopbackClientConfig) {
			klog.InfoS("Serving notices", "address", listener.Addr())
			if o.Ready != nil {
				o.Ready(listener.Addr())
			}
		}
	})
	if err := prepared.RunWithContext(ctx); err != nil {
		return fmt.Errorf("serve %s on %s: %w", demov1.SchemeGroupVersion, listener.Addr(), err)
	}
	return nil
}

// newConfig puts the server's parts together. What a small server can do
// without, and what would cost it start time and rights on the host, is left
// out: admission plugins, priority and fairness, audit.
func newConfig(ctx context.Context, o Options, scheme *runtime.Scheme, l net.Listener, allow access) (*genericserver.Config, error) {
	codecs := serializer.NewCodecFactory(scheme)
	config := genericserver.NewConfig(codecs)
	config.EffectiveVersion = compatibility.DefaultBuildEffectiveVersion()
	config.EnableProfiling = false
	config.RequestTimeout = requestTimeout
	config.ShutdownWatchTerminationGracePeriod = watchDrain

	namer := openapi.NewDefinitionNamer(newPublicScheme())
	config.OpenAPIConfig = genericserver.DefaultOpenAPIConfig(demov1.GetOpenAPIDefinitions, namer)
	config.OpenAPIConfig.Info.Title = "Bulletin"
	config.OpenAPIV3Config = genericserver.DefaultOpenAPIV3Config(demov1.GetOpenAPIDefinitions, namer)
	config.OpenAPIV3Config.Info.Title = "Bulletin"

	if err := applyServing(o, l, config); err != nil {
		return nil, err
	}
	if err := allow(ctx, config); err != nil {
		return nil, err
	}
	// Last, for it opens connections that only a running server closes.
	codec := codecs.LegacyCodec(demov1.SchemeGroupVersion)
	etcd := options.NewEtcdOptions(storagebackend.NewDefaultConfig(o.EtcdPrefix, codec))
	etcd.StorageConfig.EncodeVersioner = demov1.SchemeGroupVersion
	etcd.StorageConfig.Transport.ServerList = o.EtcdEndpoints
	etcd.StorageConfig.Transport.CertFile, etcd.StorageConfig.Transport.KeyFile = o.EtcdCertFile, o.EtcdKeyFile
	etcd.StorageConfig.Transport.TrustedCAFile = o.EtcdCAFile
	if err := etcd.ApplyTo(config); err != nil {
		return nil, fmt.Errorf("prepare etcd at %v: %w", o.EtcdEndpoints, err)
	}
	return config, nil
}

// newServer installs the group on a server made from config.
func newServer(config *genericserver.Config, scheme *runtime.Scheme) (*genericserver.GenericAPIServer, error) {
	server, err := config.Complete(nil).New("bulletin", genericserver.NewEmptyDelegate())
	if err != nil {
		return nil, fmt.Errorf("make the API server: %w", err)
	}
	main, status, err := newStorage(scheme, config.RESTOptionsGetter, time.Now)
	if err != nil {
		server.Destroy()
		return nil, err
	}
	group := genericserver.NewDefaultAPIGroupInfo(demov1.GroupName, scheme, metav1.ParameterCodec, serializer.NewCodecFactory(scheme))
	group.VersionedResourcesStorageMap[demov1.SchemeGroupVersion.Version] = map[string]rest.Storage{
		demov1.Resource:             main,
		demov1.Resource + "/status": status,
	}
	if err := server.InstallAPIGroup(&group); err != nil {
		server.Destroy()
		return nil, fmt.Errorf("install %s: %w", demov1.SchemeGroupVersion, err)
	}
	return server, nil
}

// newPublicScheme holds what clients may see.
func newPublicScheme() *runtime.Scheme {
	s := runtime.NewScheme()
	utilruntime.Must(demov1.AddToScheme(s))
	// Status, and the options of requests, travel as v1 of no group.
	metav1.AddToGroupVersion(s, schema.GroupVersion{Version: "v1"})
	return s
}

// newScheme holds what the server works with.
func newScheme() *runtime.Scheme {
	s := newPublicScheme()
	demov1.AddInternalToScheme(s)
	utilruntime.Must(s.SetVersionPriority(demov1.SchemeGroupVersion))
	return s
}

// announce waits until the server calls itself ready; false means that ctx
// ended before.
func announce(ctx context.Context, loopback *restclient.Config) bool {
	client, err := restclient.HTTPClientFor(loopback)
	if err != nil {
		klog.ErrorS(err, "Cannot make the client that asks for readiness")
		return false
	}
	defer client.CloseIdleConnections()
	err = wait.PollUntilContextCancel(ctx, 10*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, loopback.Host+"/readyz", nil)
		if err != nil {
			return false, fmt.Errorf("make the request for readiness: %w", err)
		}
		response, err := client.Do(request)
		if err != nil {
			return false, nil
		}
		defer response.Body.Close()
		return response.StatusCode == http.StatusOK, nil
	})
	return err == nil
}
