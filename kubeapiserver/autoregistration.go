package kubeapiserver

import (
	"fmt"
	"net/http"
	"strings"
	"sync"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/sets"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/healthz"
	"k8s.io/apiserver/pkg/util/peerproxy"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"k8s.io/kube-aggregator/pkg/apis/apiregistration/v1/helper"
	"k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset"
	apiregistrationinformers "k8s.io/kube-aggregator/pkg/client/informers/externalversions/apiregistration/v1"
	"k8s.io/kube-aggregator/pkg/controllers/autoregister"
	controlplane "k8s.io/kubernetes/pkg/controlplane/apiserver"
	"k8s.io/kubernetes/pkg/controlplane/controller/crdregistration"

	aggregationv1alpha1 "github.com/annex-api/annex/apis/aggregation/v1alpha1"
	"github.com/annex-api/annex/kubeapiserver/internal/priorities"
)

// registrationWorkers work on APIServices that follow built-ins and CRDs.
const registrationWorkers = 5

// addAutoRegistration keeps one local APIService for each built-in group
// version and each served version of a CustomResourceDefinition.
func addAutoRegistration(
	server *genericapiserver.GenericAPIServer, delegate genericapiserver.DelegationTarget, crds crdSource,
	client clientset.Interface, apiServices apiregistrationinformers.APIServiceInformer, work *work,
) error {
	register := autoregister.NewAutoRegisterController(apiServices, client.ApiregistrationV1())
	expected := sets.New[string]()
	known := priorities.All()
	known[aggregationv1alpha1.GroupVersion] = controlplane.APIServicePriority{Group: aggregationPriority, Version: aggregationPriority}
	served := groupVersionsOf(delegate)
	served[aggregationv1alpha1.GroupVersion] = true // by this server, not by one behind it
	for gv := range served {
		priority, ok := known[gv]
		if !ok {
			// Without a priority it may be a CRD's, which comes and goes.
			klog.V(2).InfoS("No APIService for a group version without a priority", "groupVersion", gv)
			continue
		}
		name := gv.Version + "." + gv.Group
		expected.Insert(name)
		register.AddAPIServiceToSyncOnStart(&apiregistrationv1.APIService{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec: apiregistrationv1.APIServiceSpec{
				Group: gv.Group, Version: gv.Version,
				GroupPriorityMinimum: priority.Group, VersionPriority: priority.Version,
			},
		})
	}

	err := server.AddPostStartHook("kube-apiserver-autoregistration", func(ctx genericapiserver.PostStartHookContext) error {
		if !crds.enabled {
			work.Go(func() { register.Run(registrationWorkers, ctx.Done()) })
			return nil
		}
		follow := crdregistration.NewCRDRegistrationController(crds.informer, register)
		work.Go(func() { follow.Run(registrationWorkers, ctx.Done()) })
		synced := make(chan struct{})
		go func() { // upstream's wait has no other end
			follow.WaitForInitialSync()
			close(synced)
		}()
		work.Go(func() {
			// Before the CRDs are known, an APIService that belongs to one would
			// look as if nobody wanted it any more.
			select {
			case <-synced:
				register.Run(registrationWorkers, ctx.Done())
			case <-ctx.Done():
			}
		})
		return nil
	})
	if err != nil {
		return err
	}
	check, err := registrationCheck("autoregister-completion", expected, apiServices.Informer())
	if err != nil {
		return err
	}
	return server.AddBootSequenceHealthChecks(check)
}

// registrationCheck is healthy once each of the expected APIServices was seen
// available.
func registrationCheck(name string, expected sets.Set[string], informer cache.SharedIndexInformer) (healthz.HealthChecker, error) {
	var mu sync.Mutex
	missing := expected.Clone()
	seen := func(obj any) {
		a, ok := obj.(*apiregistrationv1.APIService)
		if !ok || !helper.IsAPIServiceConditionTrue(a, apiregistrationv1.Available) {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		missing.Delete(a.Name)
	}
	if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    seen,
		UpdateFunc: func(_, obj any) { seen(obj) },
	}); err != nil {
		return nil, fmt.Errorf("watching APIServices: %w", err)
	}
	return healthz.NamedCheck(name, func(*http.Request) error {
		mu.Lock()
		defer mu.Unlock()
		if missing.Len() > 0 {
			return fmt.Errorf("missing APIService: %v", sets.List(missing))
		}
		return nil
	}), nil
}

// groupVersionsOf lists what a chain of API servers has installed.
func groupVersionsOf(delegate genericapiserver.DelegationTarget) map[schema.GroupVersion]bool {
	found := map[schema.GroupVersion]bool{}
	for _, path := range delegate.ListedPaths() {
		if path == "/api/v1" {
			found[schema.GroupVersion{Version: "v1"}] = true
			continue
		}
		if parts := strings.Split(path, "/"); len(parts) == 4 && parts[1] == "apis" {
			found[schema.GroupVersion{Group: parts[2], Version: parts[3]}] = true
		}
	}
	return found
}

// registerWithPeerProxy tells the proxy between API servers of different
// versions what is not its business: CRDs and aggregated APIs are served by
// every server alike.
func registerWithPeerProxy(proxy peerproxy.Interface, crds crdSource, apiServices apiregistrationinformers.APIServiceInformer) error {
	if err := proxy.RegisterCRDInformerHandlers(crds.informer.Informer(), func(obj any) []schema.GroupVersion {
		crd, ok := obj.(*apiextensionsv1.CustomResourceDefinition)
		if !ok {
			return nil
		}
		var gvs []schema.GroupVersion
		for _, v := range crd.Spec.Versions {
			gvs = append(gvs, schema.GroupVersion{Group: crd.Spec.Group, Version: v.Name})
		}
		return gvs
	}); err != nil {
		return fmt.Errorf("telling the peer proxy of CustomResourceDefinitions: %w", err)
	}
	if err := proxy.RegisterAPIServiceInformerHandlers(apiServices.Informer(), func(obj any) []schema.GroupVersion {
		a, ok := obj.(*apiregistrationv1.APIService)
		if !ok || a.Spec.Service == nil {
			return nil
		}
		return []schema.GroupVersion{{Group: a.Spec.Group, Version: a.Spec.Version}}
	}); err != nil {
		return fmt.Errorf("telling the peer proxy of APIServices: %w", err)
	}
	return nil
}
