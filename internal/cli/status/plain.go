package status

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	discoveryclient "k8s.io/client-go/kubernetes/typed/discovery/v1"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	apiregistration "k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset/typed/apiregistration/v1"

	"github.com/annex-api/annex/apis/aggregation/v1alpha1"
	"github.com/annex-api/annex/internal/cli/kubeconfig"
	"github.com/annex-api/annex/internal/printable"
)

const (
	// endpointsTimeout bounds how long endpoints are waited for: without them there is less to show.
	endpointsTimeout = 5 * time.Second
	// servicesPerRequest bounds the length of a selector.
	servicesPerRequest = 50
	// requestsAtOnce bounds requests for endpoints.
	requestsAtOnce = 8
	// maxEndpoints bounds those of one Service that are kept.
	maxEndpoints = 1000
	// plainRefresh is how often endpoints are read while watching.
	plainRefresh = 10 * time.Second
)

// plain is any API server with APIServices.
type plain struct {
	server          string
	client, streams apiregistration.APIServiceInterface
	slices          discoveryclient.EndpointSlicesGetter
	selector        string
}

func newPlain(c *kubeconfig.Connection, selector string) (*plain, error) {
	client, err := apiregistration.NewForConfig(c.Config)
	if err != nil {
		return nil, err
	}
	streams, err := apiregistration.NewForConfig(c.Streaming())
	if err != nil {
		return nil, err
	}
	endpoints, err := discoveryclient.NewForConfig(c.Config)
	if err != nil {
		return nil, err
	}
	return &plain{server: c.Server, client: client.APIServices(), streams: streams.APIServices(), slices: endpoints, selector: selector}, nil
}

func (p *plain) refresh() time.Duration { return plainRefresh }

func (p *plain) columns() []column { return plainColumns }

func (p *plain) list(ctx context.Context) (listed, error) {
	var all listed
	var remote []apiregistrationv1.APIService
	err := pages(func(next string) (metav1.ListMeta, error) {
		page, err := p.client.List(ctx, metav1.ListOptions{LabelSelector: p.selector, Limit: pageSize, Continue: next})
		if err != nil {
			return metav1.ListMeta{}, err
		}
		all.resourceVersion = page.ResourceVersion
		for _, a := range page.Items {
			if a.Spec.Service != nil {
				remote = append(remote, a)
			}
		}
		return page.ListMeta, nil
	}, func() { all, remote = listed{}, nil })
	if err != nil {
		return all, err
	}
	endpoints, err := p.endpoints(ctx, remote)
	if err != nil {
		all.note = fmt.Sprintf("Endpoints are left out: they cannot be read (%v).", brief(err))
	}
	for i := range remote {
		all.items = append(all.items, p.convert(&remote[i], endpoints))
	}
	return all, nil
}

// endpoints are the EndpointSlices of the Services that APIServices lead to. Where some cannot be read
// the others are given beside the error.
func (p *plain) endpoints(ctx context.Context, all []apiregistrationv1.APIService) (map[types.NamespacedName][]discoveryv1.EndpointSlice, error) {
	ctx, cancel := context.WithTimeout(ctx, endpointsTimeout)
	defer cancel()
	services := map[string][]string{}
	for i := range all {
		s := all[i].Spec.Service
		services[s.Namespace] = append(services[s.Namespace], s.Name)
	}
	type answer struct {
		namespace string
		names     []string
		slices    []discoveryv1.EndpointSlice
	}
	var answers []*answer
	for namespace, names := range services {
		slices.Sort(names)
		for chunk := range slices.Chunk(slices.Compact(names), servicesPerRequest) {
			answers = append(answers, &answer{namespace: namespace, names: chunk})
		}
	}
	var group errgroup.Group
	group.SetLimit(requestsAtOnce)
	for _, a := range answers {
		group.Go(func() error {
			list, err := p.slices.EndpointSlices(a.namespace).List(ctx, metav1.ListOptions{
				LabelSelector: discoveryv1.LabelServiceName + " in (" + strings.Join(a.names, ",") + ")",
			})
			if err != nil {
				return err
			}
			a.slices = list.Items
			if a.slices == nil {
				a.slices = []discoveryv1.EndpointSlice{}
			}
			return nil
		})
	}
	err := group.Wait()
	found := map[types.NamespacedName][]discoveryv1.EndpointSlice{}
	for _, a := range answers {
		if a.slices == nil {
			continue
		}
		for _, name := range a.names {
			found[types.NamespacedName{Namespace: a.namespace, Name: name}] = []discoveryv1.EndpointSlice{}
		}
		for _, slice := range a.slices {
			key := types.NamespacedName{Namespace: a.namespace, Name: slice.Labels[discoveryv1.LabelServiceName]}
			found[key] = append(found[key], slice)
		}
	}
	return found, err
}

// convert says of an APIService what RemoteAPIService says of it on Annex, as far as it is known here.
func (p *plain) convert(a *apiregistrationv1.APIService, endpoints map[types.NamespacedName][]discoveryv1.EndpointSlice) v1alpha1.RemoteAPIService {
	service := a.Spec.Service
	port := int32(443)
	if service.Port != nil {
		port = *service.Port
	}
	r := v1alpha1.RemoteAPIService{
		TypeMeta: metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "RemoteAPIService"},
		ObjectMeta: metav1.ObjectMeta{
			Name: a.Name, UID: a.UID, Labels: a.Labels, CreationTimestamp: a.CreationTimestamp, ResourceVersion: a.ResourceVersion,
		},
		Status: v1alpha1.RemoteAPIServiceStatus{
			Group: a.Spec.Group, Version: a.Spec.Version,
			Service:   service.Namespace + "/" + service.Name + ":" + strconv.Itoa(int(port)),
			State:     v1alpha1.Unknown,
			Server:    p.server,
			Discovery: v1alpha1.Discovery{Document: v1alpha1.Document{Freshness: v1alpha1.NeverFetched}},
			OpenAPIV2: v1alpha1.Document{Freshness: v1alpha1.NeverFetched},
			OpenAPIV3: v1alpha1.Document{Freshness: v1alpha1.NeverFetched},
			WatchList: "Unknown",
		},
	}
	for _, condition := range a.Status.Conditions {
		if condition.Type != apiregistrationv1.Available {
			continue
		}
		s := &r.Status
		s.Since = condition.LastTransitionTime
		s.Reason, s.Message = printable.Line(condition.Reason, maxReason), printable.Line(condition.Message, maxMessage)
		switch condition.Status {
		case apiregistrationv1.ConditionTrue:
			s.State, s.Reason, s.Message = v1alpha1.Healthy, "", ""
		case apiregistrationv1.ConditionFalse:
			s.State = v1alpha1.Unavailable
		}
		s.Views = []v1alpha1.View{{Server: p.server, Available: metav1.ConditionStatus(condition.Status), Reason: s.Reason, Since: s.Since}}
	}
	if found, ok := endpoints[types.NamespacedName{Namespace: service.Namespace, Name: service.Name}]; ok {
		r.Status.Endpoints, r.Status.EndpointSummary = summarize(found)
	}
	return r
}

const (
	// maxReason and maxMessage bound what a condition says, in bytes: the latter as on Annex.
	maxReason, maxMessage = 100, 1000
)

// summarize are the endpoints of a Service's slices, and how many of them are ready. One that is in
// several slices counts once; one that is ending is no longer expected to be ready.
func summarize(all []discoveryv1.EndpointSlice) ([]v1alpha1.Endpoint, string) {
	found := map[string]v1alpha1.Endpoint{}
	for _, slice := range all {
		port := ""
		if len(slice.Ports) == 1 && slice.Ports[0].Port != nil {
			port = strconv.Itoa(int(*slice.Ports[0].Port))
		}
		for _, e := range slice.Endpoints {
			if len(e.Addresses) == 0 || len(found) == maxEndpoints {
				continue
			}
			endpoint := v1alpha1.Endpoint{Address: e.Addresses[0], Kind: "endpoint", State: v1alpha1.EndpointUnreachable}
			if port != "" {
				endpoint.Address = net.JoinHostPort(e.Addresses[0], port)
			}
			if e.Zone != nil {
				endpoint.Zone = *e.Zone
			}
			if e.NodeName != nil {
				endpoint.Node = *e.NodeName
			}
			if e.TargetRef != nil && e.TargetRef.Kind == "Pod" {
				endpoint.Pod = e.TargetRef.Namespace + "/" + e.TargetRef.Name
			}
			switch {
			case e.Conditions.Terminating != nil && *e.Conditions.Terminating:
				endpoint.State = v1alpha1.EndpointDraining
			case e.Conditions.Ready == nil || *e.Conditions.Ready:
				endpoint.State = v1alpha1.EndpointHealthy
			}
			found[endpoint.Address] = endpoint
		}
	}
	var endpoints []v1alpha1.Endpoint
	ready, expected := 0, 0
	for _, e := range found {
		endpoints = append(endpoints, e)
		if e.State == v1alpha1.EndpointHealthy {
			ready++
		}
		if e.State != v1alpha1.EndpointDraining {
			expected++
		}
	}
	slices.SortFunc(endpoints, func(a, b v1alpha1.Endpoint) int { return cmp.Compare(a.Address, b.Address) })
	return endpoints, fmt.Sprintf("%d/%d", ready, expected)
}

func (p *plain) watch(ctx context.Context, resourceVersion string) (watch.Interface, error) {
	w, err := p.streams.Watch(ctx, *watchOptions(p.selector, resourceVersion))
	if err != nil {
		return nil, err
	}
	return watch.Filter(w, func(e watch.Event) (watch.Event, bool) {
		a, ok := e.Object.(*apiregistrationv1.APIService)
		switch {
		case !ok:
			return e, true // an error
		case e.Type == watch.Bookmark:
			e.Object = &v1alpha1.RemoteAPIService{ObjectMeta: metav1.ObjectMeta{ResourceVersion: a.ResourceVersion}}
			return e, true
		case a.Spec.Service == nil && e.Type == watch.Deleted:
			return e, false
		case a.Spec.Service == nil:
			// It may have had an extension server until now.
			e.Type = watch.Deleted
			e.Object = &v1alpha1.RemoteAPIService{ObjectMeta: metav1.ObjectMeta{Name: a.Name, ResourceVersion: a.ResourceVersion}}
			return e, true
		}
		var endpoints map[types.NamespacedName][]discoveryv1.EndpointSlice
		if e.Type != watch.Deleted {
			// Without them the row goes on without.
			endpoints, _ = p.endpoints(ctx, []apiregistrationv1.APIService{*a})
		}
		object := p.convert(a, endpoints)
		e.Object = &object
		return e, true
	}), nil
}

// brief is a server's error in few words.
func brief(err error) string { return printable.Line(err.Error(), 300) }
