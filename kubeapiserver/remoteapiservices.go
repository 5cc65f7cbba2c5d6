package kubeapiserver

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/klog/v2"

	aggregationv1alpha1 "github.com/annex-api/annex/apis/aggregation/v1alpha1"
	"github.com/annex-api/annex/diagnosis"
	"github.com/annex-api/annex/extension"
	"github.com/annex-api/annex/extension/embed"
)

const (
	// observePeriod is how often numbers move that somebody watches, and how old those are
	// that somebody gets.
	observePeriod = 2 * time.Second
	// observeHistory and observeHistoryBytes bound what is remembered for watches.
	observeHistory      = time.Minute
	observeHistoryBytes = 8 << 20
	// aggregationPriority puts aggregation.annex.dev behind all other groups: a short name
	// that others have too is theirs.
	aggregationPriority = 1
)

// observer tells what the layer knows of the APIServices that lead to extension servers.
// aggregator.Aggregator is one. What it gives belongs to the caller.
type observer interface {
	Observe() []aggregationv1alpha1.RemoteAPIService
	Changed() <-chan struct{}
}

// remoteAPIServices are what the layer sees, as the resource of aggregation.annex.dev. Without
// readers nothing is computed.
func remoteAPIServices(layer observer, affected *affected) (*embed.Kinds, error) {
	return embed.New(extension.Computed[aggregationv1alpha1.RemoteAPIService]{
		GroupVersion: aggregationv1alpha1.GroupVersion,
		Schema:       aggregationv1alpha1.CRD,
		List: func(ctx context.Context) ([]aggregationv1alpha1.RemoteAPIService, error) {
			all := layer.Observe()
			affected.addTo(ctx, all)
			return all, nil
		},
		Changed:  layer.Changed(),
		Every:    observePeriod,
		OnDemand: true,
		Equal: func(a, b *aggregationv1alpha1.RemoteAPIService) bool {
			return a.CreationTimestamp.Equal(&b.CreationTimestamp) && a.UID == b.UID &&
				maps.Equal(a.Labels, b.Labels) && maps.Equal(a.Annotations, b.Annotations) && sameToWatchers(&a.Status, &b.Status)
		},
		History: extension.History{Age: observeHistory, Bytes: observeHistoryBytes},
	})
}

// sameToWatchers says that nothing differs but when documents were found unchanged last, which
// is each minute.
func sameToWatchers(a, b *aggregationv1alpha1.RemoteAPIServiceStatus) bool {
	then := *b
	then.Discovery.Fetched, then.OpenAPIV2.Fetched, then.OpenAPIV3.Fetched = a.Discovery.Fetched, a.OpenAPIV2.Fetched, a.OpenAPIV3.Fetched
	return reflect.DeepEqual(a, &then) // apiequality takes six times as long
}

// codeOf is the code by which diagnosis explains a fault; empty where it does not.
func codeOf(reason string) string {
	code, _ := diagnosis.CodeOf(reason)
	return string(code)
}

// ownOpenAPI gives a server's config OpenAPI settings of its own: it shares those of the
// servers behind it, which have nothing to do with what is added.
func ownOpenAPI(config genericapiserver.CompletedConfig) {
	if c := config.OpenAPIConfig; c != nil {
		own := *c
		config.OpenAPIConfig = &own
	}
	if c := config.OpenAPIV3Config; c != nil {
		own := *c
		config.OpenAPIV3Config = &own
	}
}

// aggregationGroup is the group as /apis lists it.
func aggregationGroup() metav1.APIGroup {
	v1alpha1 := metav1.GroupVersionForDiscovery{
		GroupVersion: aggregationv1alpha1.GroupVersion.String(),
		Version:      aggregationv1alpha1.GroupVersion.Version,
	}
	return metav1.APIGroup{
		Name:             aggregationv1alpha1.GroupVersion.Group,
		Versions:         []metav1.GroupVersionForDiscovery{v1alpha1},
		PreferredVersion: v1alpha1,
	}
}

// installRemoteAPIServices serves kinds, and gives those who may view a cluster the right to
// read them. config is what server was made of, described by the kinds.
func installRemoteAPIServices(server *genericapiserver.GenericAPIServer, config genericapiserver.CompletedConfig, kinds *embed.Kinds, affected *affected, roles *viewRole, work *work) error {
	run, err := kinds.Install(server, config.Config)
	if err != nil {
		return fmt.Errorf("installing %s: %w", aggregationv1alpha1.GroupVersion, err)
	}
	if err := server.AddPostStartHook("annex-remote-apiservices", func(ctx genericapiserver.PostStartHookContext) error {
		work.Go(func() {
			if err := run(ctx); err != nil {
				klog.FromContext(ctx).Error(err, "Observing APIServices stopped")
			}
		})
		work.Go(func() { affected.run(ctx) })
		work.Go(func() { roles.reconcile(ctx) })
		return nil
	}); err != nil {
		return fmt.Errorf("adding the hook of %s: %w", aggregationv1alpha1.GroupVersion, err)
	}
	return nil
}
