package gather

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/annex-api/annex/apis/aggregation/v1alpha1"
	"github.com/annex-api/annex/diagnosis"
)

const (
	// maxSlices, maxPolicies and maxPods bound what is kept of what stands behind a Service.
	maxSlices, maxPolicies, maxPods = 100, 200, 50
	// maxServerLines is how many lines of API servers' logs are kept for one APIService.
	maxServerLines = 50
)

// errNoAccount: the extension server runs elsewhere, or its Pods may not be seen.
var errNoAccount error = unsupported("no Pods of the extension server are known, so that its ServiceAccount is not either")

// unsupported is a [diagnosis.ErrUnsupported] that says itself what there is not.
type unsupported string

func (u unsupported) Error() string { return string(u) }

func (unsupported) Unwrap() error { return diagnosis.ErrUnsupported }

// apiService sees one APIService and what stands behind it. f has the object.
func (g *gathering) apiService(ctx context.Context, name string, f *diagnosis.APIServiceFacts) {
	f.File = g.Manifests != nil
	f.Remote = g.remote(ctx, name, f.File)
	if f.Object.Value == nil {
		return
	}
	a := f.Object.Value
	named := len(g.Names) > 0 || f.File
	var behind sync.WaitGroup
	look := func(closely bool) {
		behind.Go(func() {
			if a.Spec.Service != nil {
				g.behind(ctx, a, f, closely)
			}
		})
	}
	if named {
		look(true)
	}
	if !f.File {
		g.answers(ctx, a, f)
	}
	if !named {
		look(!well(a, f))
	}
	if !f.File {
		g.watches(ctx, a, f)
	}
	behind.Wait()
	f.Views, f.Outages = g.views(name, f.Remote.Value), g.outages(name)
	f.APIServerLog = diagnosis.Known[[]diagnosis.Line]{Value: linesAbout(g.log.Value, a), Seen: g.log.Seen, Err: g.log.Err}
}

// remote is what Annex says of an APIService; of one among many it says it in a list.
func (g *gathering) remote(ctx context.Context, name string, file bool) diagnosis.Known[*v1alpha1.RemoteAPIService] {
	isAnnex, seen := g.facts.Cluster.Annex.Get()
	switch {
	case !seen:
		return diagnosis.Unseen[*v1alpha1.RemoteAPIService](g.facts.Cluster.Annex.Why())
	case !isAnnex || file:
		return diagnosis.Saw[*v1alpha1.RemoteAPIService](nil)
	case len(g.Names) == 0:
		said := once(&g.memo, "remoteapiservices", func() diagnosis.Known[map[string]*v1alpha1.RemoteAPIService] {
			every, err := list(ctx, g.cluster, remoteAPIServices, nil, pageSize*maxPages, all[v1alpha1.RemoteAPIService])
			byName := map[string]*v1alpha1.RemoteAPIService{}
			for i := range every {
				byName[every[i].Name] = &every[i]
			}
			return diagnosis.Look(byName, err)
		})
		if r := said.Value[name]; r != nil {
			return diagnosis.Saw(r)
		}
	}
	return optional[v1alpha1.RemoteAPIService](ctx, g.cluster, remoteAPIServices+"/"+name)
}

const remoteAPIServices = "/apis/aggregation.annex.dev/v1alpha1/remoteapiservices"

// well says that an APIService is in each respect that shows itself: what would explain a fault, as
// logs and rights, explains nothing of it.
func well(a *apiregistrationv1.APIService, f *diagnosis.APIServiceFacts) bool {
	if r := f.Remote.Value; !Available(a) || r != nil && r.Status.State != v1alpha1.Healthy {
		return false
	}
	return !slices.ContainsFunc([]diagnosis.Known[diagnosis.Answer]{f.GroupVersion, f.List, f.Protobuf}, func(k diagnosis.Known[diagnosis.Answer]) bool {
		return k.Seen && (k.Value.Code == 0 || k.Value.Code >= http.StatusBadRequest)
	})
}

// linesAbout are the last lines of a log that name an APIService or its group version.
func linesAbout(log []diagnosis.Line, a *apiregistrationv1.APIService) []diagnosis.Line {
	found := []diagnosis.Line{}
	gv := a.Spec.Group + "/" + a.Spec.Version
	for _, line := range log {
		if diagnosis.Mentions(line.Text, a.Name) || diagnosis.Mentions(line.Text, gv) {
			found = append(found, line)
		}
	}
	return found[max(0, len(found)-maxServerLines):]
}

// behind sees the Service and what it leads to, and closely also what would explain a fault. What
// several APIServices share is asked once.
func (g *gathering) behind(ctx context.Context, a *apiregistrationv1.APIService, f *diagnosis.APIServiceFacts, closely bool) {
	to := a.Spec.Service
	service := to.Namespace + "/" + to.Name
	together(
		func() {
			f.Service = once(&g.memo, "service "+service, func() diagnosis.Known[*corev1.Service] {
				return optional[corev1.Service](ctx, g.cluster, "/api/v1/namespaces/"+to.Namespace+"/services/"+to.Name)
			})
		},
		func() {
			f.EndpointSlices = once(&g.memo, "endpointslices "+service, func() diagnosis.Known[[]discoveryv1.EndpointSlice] {
				return diagnosis.Look(list(ctx, g.cluster, "/apis/discovery.k8s.io/v1/namespaces/"+to.Namespace+"/endpointslices",
					selecting("labelSelector", discoveryv1.LabelServiceName+"="+to.Name), maxSlices, all[discoveryv1.EndpointSlice]))
			})
		},
	)
	g.fromManifests(to, f)
	switch selected := f.Service.Value; {
	case !f.Service.Seen:
		f.Pods, f.Workloads = diagnosis.Unseen[[]diagnosis.Pod](f.Service.Why()), diagnosis.Unseen[[]diagnosis.Workload](f.Service.Why())
	case selected == nil:
		f.Pods, f.Workloads = diagnosis.Saw([]diagnosis.Pod{}), diagnosis.Saw([]diagnosis.Workload{})
	default:
		together(
			func() { f.Pods = g.pods(ctx, selected) },
			func() {
				if len(f.Workloads.Value) == 0 { // those of a file come first
					f.Workloads = g.workloads(ctx, selected)
				}
			},
		)
	}
	closely = closely || f.Service.Value == nil || slices.ContainsFunc(f.Pods.Value, func(p diagnosis.Pod) bool { return !ready(p.Object) })
	f.ServiceAccount = serviceAccount(f)
	together(
		func() {
			if closely {
				g.causes(ctx, to, f)
			}
		},
		func() {
			if f.Service.Value != nil || !f.Service.Seen {
				f.Endpoints = g.endpoints(ctx, a, f)
			}
		},
	)
}

// causes sees what would explain a fault of what is behind a Service.
func (g *gathering) causes(ctx context.Context, to *apiregistrationv1.ServiceReference, f *diagnosis.APIServiceFacts) {
	together(
		func() {
			if !f.Namespace.Seen { // that of a file comes first
				f.Namespace = once(&g.memo, "namespace "+to.Namespace, func() diagnosis.Known[*corev1.Namespace] {
					return optional[corev1.Namespace](ctx, g.cluster, "/api/v1/namespaces/"+to.Namespace)
				})
			}
		},
		func() {
			f.NetworkPolicies = once(&g.memo, "networkpolicies "+to.Namespace, func() diagnosis.Known[[]networkingv1.NetworkPolicy] {
				return diagnosis.Look(list(ctx, g.cluster, "/apis/networking.k8s.io/v1/namespaces/"+to.Namespace+"/networkpolicies",
					nil, maxPolicies, all[networkingv1.NetworkPolicy]))
			})
		},
		func() {
			if f.Service.Seen && f.Service.Value == nil {
				f.SimilarServices = g.similarServices(ctx, to)
			}
		},
		func() { f.Pods.Value = g.loud(ctx, f.Pods.Value) },
		func() { f.Workloads.Value = g.withEarlierPorts(ctx, to.Namespace, f.Workloads.Value) },
		func() {
			if f.Service.Seen && f.Service.Value == nil {
				return
			}
			if f.ServiceAccount != "" {
				may := once(&g.memo, "rights "+to.Namespace+"/"+f.ServiceAccount, func() accountRights {
					rights, readers := g.rights(ctx, to.Namespace, f.ServiceAccount)
					return accountRights{rights, readers}
				})
				f.Rights, f.ReaderBindings = may.rights, may.readers
				return
			}
			f.Rights = map[diagnosis.Right]diagnosis.Known[bool]{}
			for _, right := range diagnosis.Rights() {
				f.Rights[right] = diagnosis.Unseen[bool](errNoAccount)
			}
			f.ReaderBindings = diagnosis.Unseen[[]string](errNoAccount)
		},
	)
}

// accountRights are what a ServiceAccount may do, and who lets it.
type accountRights struct {
	rights  map[diagnosis.Right]diagnosis.Known[bool]
	readers diagnosis.Known[[]string]
}

// serviceAccount is the one that the Pods run as; that of their template where there are none.
func serviceAccount(f *diagnosis.APIServiceFacts) string {
	for _, p := range f.Pods.Value {
		if name := p.Object.Spec.ServiceAccountName; name != "" {
			return name
		}
	}
	if len(f.Workloads.Value) > 0 {
		return cmp.Or(f.Workloads.Value[0].Template.ServiceAccountName, "default")
	}
	return ""
}

// similarServices may be the ones that were meant.
func (g *gathering) similarServices(ctx context.Context, to *apiregistrationv1.ServiceReference) diagnosis.Known[[]string] {
	var errs []error
	namespace := "/api/v1/namespaces/" + to.Namespace
	services, err := list(ctx, g.cluster, namespace+"/services", nil, pageSize, all[corev1.Service])
	errs = append(errs, err)
	pods, err := list(ctx, g.cluster, namespace+"/pods", nil, pageSize, all[corev1.Pod])
	errs = append(errs, err)
	if err := errors.Join(errs...); err != nil {
		return diagnosis.Unseen[[]string](err)
	}
	names := []string{}
	for _, s := range services {
		selected := slices.ContainsFunc(pods, func(p corev1.Pod) bool { return selects(s.Spec.Selector, p.Labels) })
		if selected || resembles(s.Name, to.Name) {
			names = append(names, s.Name)
		}
	}
	return diagnosis.Saw(names)
}

// resembles says whether one name holds the other, or begins with the same word.
func resembles(a, b string) bool {
	first, _, _ := strings.Cut(a, "-")
	second, _, _ := strings.Cut(b, "-")
	return strings.Contains(a, b) || strings.Contains(b, a) || first == second
}
