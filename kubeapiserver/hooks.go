package kubeapiserver

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	genericfeatures "k8s.io/apiserver/pkg/features"
	genericapiserver "k8s.io/apiserver/pkg/server"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	kubeinformers "k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	apiregistrationinformers "k8s.io/kube-aggregator/pkg/client/informers/externalversions"
)

const (
	// firstDiscovery bounds how long readiness waits for the first discovery of
	// extension servers: one that is dead or slow must not hold up the start.
	firstDiscovery = time.Second
	// stopReporting bounds how long the shutdown waits for the status Lease to
	// be given up.
	stopReporting = 3 * time.Second
	// storageVersionRefresh is how often StorageVersion objects are put right,
	// should another have changed them.
	storageVersionRefresh = 10 * time.Minute
)

// addHooks starts the layer with the server. The names are the reference's, so
// that health checks that ask for one by name go on working.
func addHooks(server *genericapiserver.GenericAPIServer, l *layer, own apiregistrationinformers.SharedInformerFactory, shared kubeinformers.SharedInformerFactory, events *events) error {
	// routed is healthy once the first APIServices are routed.
	routed := func(ctx genericapiserver.PostStartHookContext) error {
		select {
		case <-ctx.Done():
		case <-l.aggregator.Routes():
		}
		return nil
	}
	hooks := map[string]genericapiserver.PostStartHookFunc{
		"start-kube-aggregator-informers": func(ctx genericapiserver.PostStartHookContext) error {
			own.Start(ctx.Done())
			shared.Start(ctx.Done())
			return nil
		},
		"apiservice-registration-controller": func(ctx genericapiserver.PostStartHookContext) error {
			l.start(ctx)
			events.start(ctx)
			return routed(ctx)
		},
		"apiservice-status-local-available-controller":  routed,
		"apiservice-status-remote-available-controller": routed,
		"apiservice-openapi-controller":                 routed,
		"apiservice-openapiv3-controller":               routed,
		"apiservice-discovery-controller": func(ctx genericapiserver.PostStartHookContext) error {
			if err := routed(ctx); err != nil {
				return err
			}
			bounded, cancel := context.WithTimeout(ctx, firstDiscovery)
			defer cancel()
			l.aggregator.AwaitDiscovery(bounded)
			return nil
		},
	}
	if l.clientCerts != nil {
		hooks["aggregator-reload-proxy-client-cert"] = func(ctx genericapiserver.PostStartHookContext) error {
			l.work.Go(func() { l.clientCerts.Run(ctx, 1) })
			return nil
		}
	}
	if utilfeature.DefaultFeatureGate.Enabled(genericfeatures.StorageVersionAPI) &&
		utilfeature.DefaultFeatureGate.Enabled(genericfeatures.APIServerIdentity) {
		hooks["built-in-resources-storage-version-updater"] = func(ctx genericapiserver.PostStartHookContext) error {
			return updateStorageVersions(ctx, server)
		}
	}
	for name, hook := range hooks {
		if err := server.AddPostStartHook(name, hook); err != nil {
			return fmt.Errorf("adding the hook %s: %w", name, err)
		}
	}
	return server.AddPreShutdownHook("annex-stop-reporting", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), stopReporting)
		defer cancel()
		l.aggregator.StopReporting(ctx)
		return nil
	})
}

// updateStorageVersions publishes the versions that built-in resources are
// stored in; until that is done the handler chain holds back writes. It waits
// for this server's identity Lease first, without which the published versions
// would be collected as garbage.
func updateStorageVersions(ctx genericapiserver.PostStartHookContext, server *genericapiserver.GenericAPIServer) error {
	client, err := kubernetes.NewForConfig(ctx.LoopbackClientConfig)
	if err != nil {
		return fmt.Errorf("making the loopback client: %w", err)
	}
	err = wait.PollUntilContextCancel(ctx, 100*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		_, err := client.CoordinationV1().Leases(metav1.NamespaceSystem).Get(ctx, server.APIServerID, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return false, nil
		}
		return err == nil, err
	})
	if err != nil {
		return fmt.Errorf("waiting for the identity Lease %s: %w", server.APIServerID, err)
	}
	// The end of the server does not wait for it: where the API is gone, upstream tries
	// each resource three times, and sleeps in between.
	go wait.UntilWithContext(ctx, func(context.Context) {
		server.StorageVersionManager.UpdateStorageVersions(ctx.LoopbackClientConfig, server.APIServerID)
	}, storageVersionRefresh)
	err = wait.PollUntilContextCancel(ctx, time.Second, true, func(context.Context) (bool, error) {
		return server.StorageVersionManager.Completed(), nil
	})
	if ctx.Err() != nil {
		return nil
	}
	return err
}
