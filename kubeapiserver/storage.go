package kubeapiserver

import (
	"context"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/registry/rest"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"
	"k8s.io/kube-aggregator/pkg/apis/apiregistration"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	apiservicestorage "k8s.io/kube-aggregator/pkg/registry/apiservice/etcd"
	apiservicerest "k8s.io/kube-aggregator/pkg/registry/apiservice/rest"

	"github.com/annex-api/annex/aggregator"
)

// installAPIServices serves apiregistration.k8s.io, and warns about
// APIServices that take a group version away from this server.
func installAPIServices(server *genericapiserver.GenericAPIServer, config genericapiserver.CompletedConfig, owners groupVersionOwners, events *events) error {
	info := apiservicerest.NewRESTStorage(config.MergedResourceConfig, config.RESTOptionsGetter, false)
	v1 := info.VersionedResourcesStorageMap[apiregistrationv1.SchemeGroupVersion.Version]
	storage, ok := v1["apiservices"].(*apiservicestorage.REST)
	if !ok {
		return fmt.Errorf("API group/version %s must be enabled", apiregistrationv1.SchemeGroupVersion)
	}
	storage.CreateStrategy = createStrategy{storage.CreateStrategy, owners}
	storage.UpdateStrategy = updateStrategy{storage.UpdateStrategy, owners}
	storage.AfterCreate = func(obj runtime.Object, _ *metav1.CreateOptions) { events.takeover(obj, owners) }
	storage.AfterUpdate = func(obj runtime.Object, _ *metav1.UpdateOptions) { events.takeover(obj, owners) }
	return server.InstallAPIGroup(&info)
}

// createStrategy and updateStrategy add warnings to those of the store.
type createStrategy struct {
	rest.RESTCreateStrategy
	owners groupVersionOwners
}

func (s createStrategy) Validate(ctx context.Context, obj runtime.Object) field.ErrorList {
	return append(s.RESTCreateStrategy.Validate(ctx, obj), validateSettings(obj)...)
}

func (s createStrategy) WarningsOnCreate(ctx context.Context, obj runtime.Object) []string {
	return append(s.RESTCreateStrategy.WarningsOnCreate(ctx, obj), s.owners.warnings(obj)...)
}

type updateStrategy struct {
	rest.RESTUpdateStrategy
	owners groupVersionOwners
}

func (s updateStrategy) ValidateUpdate(ctx context.Context, obj, old runtime.Object) field.ErrorList {
	return append(s.RESTUpdateStrategy.ValidateUpdate(ctx, obj, old), validateSettings(obj)...)
}

// validateSettings refuses annotations that hold a bad setting.
func validateSettings(obj runtime.Object) field.ErrorList {
	a, ok := obj.(*apiregistration.APIService)
	if !ok {
		return nil
	}
	return aggregator.ValidateSettings(a.Annotations, field.NewPath("metadata", "annotations"))
}

func (s updateStrategy) WarningsOnUpdate(ctx context.Context, obj, old runtime.Object) []string {
	return append(s.RESTUpdateStrategy.WarningsOnUpdate(ctx, obj, old), s.owners.warnings(obj)...)
}

// groupVersionOwners knows what this server serves itself.
type groupVersionOwners struct {
	builtIn map[schema.GroupVersion]bool
	crds    crdSource
}

// of describes what serves a group version here; empty where nothing does.
func (o groupVersionOwners) of(gv schema.GroupVersion) string {
	if o.builtIn[gv] {
		return "the built-in API " + gv.String()
	}
	if !o.crds.enabled {
		return ""
	}
	crds, err := o.crds.informer.Lister().List(labels.Everything())
	if err != nil {
		return ""
	}
	for _, crd := range crds {
		if crd.Spec.Group != gv.Group {
			continue
		}
		for _, v := range crd.Spec.Versions {
			if v.Name == gv.Version && v.Served {
				return "the CustomResourceDefinition " + crd.Name
			}
		}
	}
	return ""
}

func (o groupVersionOwners) warnings(obj runtime.Object) []string {
	a, ok := obj.(*apiregistration.APIService)
	if !ok || a.Spec.Service == nil {
		return nil
	}
	owner := o.of(schema.GroupVersion{Group: a.Spec.Group, Version: a.Spec.Version})
	if owner == "" {
		return nil
	}
	return []string{fmt.Sprintf("APIService %s takes over %s: requests for it go to service/%s in %q from now on",
		a.Name, owner, a.Spec.Service.Name, a.Spec.Service.Namespace)}
}

// events records what happens to APIServices in the event log.
type events struct {
	client      kubernetes.Interface
	broadcaster record.EventBroadcaster
	recorder    record.EventRecorder
	once        sync.Once
}

func newEvents(client kubernetes.Interface) *events {
	b := record.NewBroadcaster()
	return &events{
		client: client, broadcaster: b,
		recorder: b.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "annex-aggregation"}),
	}
}

// start writes events until ctx ends.
func (e *events) start(ctx context.Context) {
	e.once.Do(func() {
		e.broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: e.client.CoreV1().Events("")})
		context.AfterFunc(ctx, e.broadcaster.Shutdown)
	})
}

func (e *events) takeover(obj runtime.Object, owners groupVersionOwners) {
	a, ok := obj.(*apiregistration.APIService)
	if !ok {
		return
	}
	for _, warning := range owners.warnings(a) {
		e.recorder.Event(&corev1.ObjectReference{
			APIVersion: apiregistrationv1.SchemeGroupVersion.String(), Kind: "APIService",
			Name: a.Name, UID: a.UID, ResourceVersion: a.ResourceVersion,
		}, corev1.EventTypeWarning, "APIServiceTakeover", warning)
	}
}
