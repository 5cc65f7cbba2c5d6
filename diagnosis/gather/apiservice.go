package gather

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

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
	if isAnnex, seen := g.facts.Cluster.Annex.Get(); !seen {
		f.Remote = diagnosis.Unseen[*v1alpha1.RemoteAPIService](g.facts.Cluster.Annex.Why())
	} else if isAnnex && !f.File {
		f.Remote = optional[v1alpha1.RemoteAPIService](ctx, g.cluster, "/apis/aggregation.annex.dev/v1alpha1/remoteapiservices/"+name)
	} else {
		f.Remote = diagnosis.Saw[*v1alpha1.RemoteAPIService](nil)
	}
	if f.Object.Value == nil {
		return
	}
	a := f.Object.Value
	together(
		func() {
			if !f.File {
				g.answers(ctx, a, f)
			}
		},
		func() {
			if a.Spec.Service != nil {
				g.behind(ctx, a, f)
			}
		},
	)
	f.Views, f.Outages = g.views(name, f.Remote.Value), g.outages(name)
	f.APIServerLog = diagnosis.Known[[]string]{Value: linesAbout(g.log.Value, a), Seen: g.log.Seen, Err: g.log.Err}
}

// linesAbout are the last lines of a log that name an APIService or its group version.
func linesAbout(log []string, a *apiregistrationv1.APIService) []string {
	found := []string{}
	gv := a.Spec.Group + "/" + a.Spec.Version
	for _, line := range log {
		if diagnosis.Mentions(line, a.Name) || diagnosis.Mentions(line, gv) {
			found = append(found, line)
		}
	}
	return found[max(0, len(found)-maxServerLines):]
}

// behind sees the Service and what it leads to.
func (g *gathering) behind(ctx context.Context, a *apiregistrationv1.APIService, f *diagnosis.APIServiceFacts) {
	to := a.Spec.Service
	namespace := "/api/v1/namespaces/" + to.Namespace
	together(
		func() { f.Namespace = optional[corev1.Namespace](ctx, g.cluster, namespace) },
		func() { f.Service = optional[corev1.Service](ctx, g.cluster, namespace+"/services/"+to.Name) },
		func() {
			f.EndpointSlices = diagnosis.Look(list(ctx, g.cluster, "/apis/discovery.k8s.io/v1/namespaces/"+to.Namespace+"/endpointslices",
				selecting("labelSelector", discoveryv1.LabelServiceName+"="+to.Name), maxSlices, all[discoveryv1.EndpointSlice]))
		},
		func() {
			f.NetworkPolicies = diagnosis.Look(list(ctx, g.cluster, "/apis/networking.k8s.io/v1/namespaces/"+to.Namespace+"/networkpolicies",
				nil, maxPolicies, all[networkingv1.NetworkPolicy]))
		},
	)
	g.fromManifests(to, f)
	service := f.Service.Value
	switch {
	case !f.Service.Seen:
		f.Pods, f.Workloads = diagnosis.Unseen[[]diagnosis.Pod](f.Service.Why()), diagnosis.Unseen[[]diagnosis.Workload](f.Service.Why())
	case service == nil:
		f.Pods, f.Workloads = diagnosis.Saw([]diagnosis.Pod{}), diagnosis.Saw([]diagnosis.Workload{})
		f.SimilarServices = g.similarServices(ctx, to)
		return
	default:
		together(
			func() { f.Pods = g.pods(ctx, service) },
			func() {
				if len(f.Workloads.Value) == 0 { // those of a file come first
					f.Workloads = g.workloads(ctx, service)
				}
			},
		)
	}
	f.ServiceAccount = serviceAccount(f)
	together(
		func() {
			if f.ServiceAccount != "" {
				f.Rights, f.ReaderBindings = g.rights(ctx, to.Namespace, f.ServiceAccount)
				return
			}
			f.Rights = map[diagnosis.Right]diagnosis.Known[bool]{}
			for _, right := range diagnosis.Rights() {
				f.Rights[right] = diagnosis.Unseen[bool](errNoAccount)
			}
			f.ReaderBindings = diagnosis.Unseen[[]string](errNoAccount)
		},
		func() { f.Endpoints = g.endpoints(ctx, a, f) },
	)
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
