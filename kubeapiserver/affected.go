package kubeapiserver

import (
	"context"
	"slices"
	"sync"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"
	"k8s.io/klog/v2"

	aggregationv1alpha1 "github.com/annex-api/annex/apis/aggregation/v1alpha1"
	"github.com/annex-api/annex/diagnosis"
)

const (
	// affectedAge is after which time is asked again who suffers, affectedTimeout how long
	// finding it out may take, and affectedPatience how much of that other news wait for.
	affectedAge      = 10 * time.Second
	affectedTimeout  = 3 * time.Second
	affectedPatience = 200 * time.Millisecond
	// affectedPage and affectedPages bound how many namespaces and autoscalers are looked at.
	affectedPage  = 500
	affectedPages = 10
	// affectedNames is how many of them an answer names.
	affectedNames = 20
)

// heldUp are the parts of Kubernetes that need the discovery of all groups.
var heldUp = []string{"garbage collector", "resource quota"}

// starved are, by group of metrics, the reasons of autoscalers that lack them.
var starved = map[string][]string{
	"metrics.k8s.io":          {"FailedGetResourceMetric", "FailedGetContainerResourceMetric"},
	"custom.metrics.k8s.io":   {"FailedGetPodsMetric", "FailedGetObjectMetric"},
	"external.metrics.k8s.io": {"FailedGetExternalMetric"},
}

// affected finds out who suffers from APIServices that are not available. While there are none
// it asks nobody.
type affected struct {
	client   kubernetes.Interface
	now      func() time.Time
	patience time.Duration // affectedPatience
	wanted   chan question // one slot: for run

	mu    sync.Mutex
	asked time.Time // zero before the first time
	found sufferers
}

// question is what run is to find out.
type question struct {
	autoscalers bool
	answered    chan struct{} // closed when it has
}

// sufferers are namespaces that are being deleted, and autoscalers that are not at work.
type sufferers struct {
	namespaces  []corev1.Namespace
	autoscalers []autoscalingv2.HorizontalPodAutoscaler
}

func newAffected(client kubernetes.Interface) *affected {
	return &affected{client: client, now: time.Now, patience: affectedPatience, wanted: make(chan question, 1)}
}

// addTo says of each that is not available who suffers, as far as that is known. It waits for
// news of them no longer than its patience: what else there is to tell is more urgent.
func (a *affected) addTo(ctx context.Context, all []aggregationv1alpha1.RemoteAPIService) {
	var down []*aggregationv1alpha1.RemoteAPIServiceStatus
	metrics := false
	for i := range all {
		if s := &all[i].Status; s.State == aggregationv1alpha1.Unavailable {
			down = append(down, s)
			metrics = metrics || starved[s.Group] != nil
		}
	}
	if len(down) == 0 {
		return
	}
	if answered := a.ask(metrics); answered != nil {
		enough := time.NewTimer(a.patience)
		defer enough.Stop()
		select {
		case <-answered:
		case <-enough.C:
		case <-ctx.Done():
		}
	}
	found := a.known()
	for _, s := range down {
		s.Affected = found.from(s.Group, s.Version)
	}
}

// ask has run find out anew where what is known is old; nil where it is not, or run is at it.
func (a *affected) ask(autoscalers bool) (answered <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	if !a.asked.IsZero() && now.Sub(a.asked) < affectedAge {
		return nil
	}
	q := question{autoscalers, make(chan struct{})}
	select {
	case a.wanted <- q:
		a.asked = now
		return q.answered
	default:
		return nil
	}
}

func (a *affected) known() sufferers {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.found
}

// run finds out what it is asked until ctx ends.
func (a *affected) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case q := <-a.wanted:
			a.find(ctx, q.autoscalers)
			close(q.answered)
		}
	}
}

// find takes note of who suffers now. What cannot be found out stays as it was.
func (a *affected) find(ctx context.Context, autoscalers bool) {
	ctx, cancel := context.WithTimeout(ctx, affectedTimeout)
	defer cancel()
	found := a.known()
	if now, err := a.namespaces(ctx); err == nil {
		found.namespaces = now
	} else {
		klog.FromContext(ctx).V(2).Info("Finding namespaces that are stuck failed", "err", err)
	}
	if !autoscalers {
		found.autoscalers = nil
	} else if now, err := a.autoscalers(ctx); err == nil {
		found.autoscalers = now
	} else {
		klog.FromContext(ctx).V(2).Info("Finding autoscalers without metrics failed", "err", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.found = found // replaced, never changed
}

func (a *affected) namespaces(ctx context.Context) (all []corev1.Namespace, err error) {
	terminating := fields.OneTermEqualSelector("status.phase", string(corev1.NamespaceTerminating)).String()
	options := metav1.ListOptions{Limit: affectedPage, FieldSelector: terminating}
	for range affectedPages {
		page, err := a.client.CoreV1().Namespaces().List(ctx, options)
		if err != nil {
			return nil, err
		}
		all = append(all, page.Items...)
		if options.Continue = page.Continue; options.Continue == "" {
			break
		}
	}
	return all, nil
}

// autoscalers keeps what is not at work of a page, and no more.
func (a *affected) autoscalers(ctx context.Context) (idle []autoscalingv2.HorizontalPodAutoscaler, err error) {
	options := metav1.ListOptions{Limit: affectedPage}
	for range affectedPages {
		page, err := a.client.AutoscalingV2().HorizontalPodAutoscalers(metav1.NamespaceAll).List(ctx, options)
		if err != nil {
			return nil, err
		}
		for _, h := range page.Items {
			if whyIdle(&h) != "" {
				idle = append(idle, h)
			}
		}
		if options.Continue = page.Continue; options.Continue == "" {
			break
		}
	}
	return idle, nil
}

// from is who suffers from one group version.
func (s sufferers) from(group, version string) *aggregationv1alpha1.Affected {
	out := &aggregationv1alpha1.Affected{Controllers: slices.Clone(heldUp)}
	for i := range s.namespaces {
		if isStuck(&s.namespaces[i], group+"/"+version) {
			out.NamespaceCount++
			out.Namespaces = append(out.Namespaces, s.namespaces[i].Name)
		}
	}
	for i := range s.autoscalers {
		if h := &s.autoscalers[i]; slices.Contains(starved[group], whyIdle(h)) {
			out.AutoscalerCount++
			out.Autoscalers = append(out.Autoscalers, h.Namespace+"/"+h.Name)
		}
	}
	out.Namespaces, out.Autoscalers = first(out.Namespaces), first(out.Autoscalers)
	return out
}

func first(names []string) []string {
	slices.Sort(names)
	return names[:min(len(names), affectedNames)]
}

// isStuck says whether the deletion of a namespace waits for the discovery of a group version.
func isStuck(n *corev1.Namespace, groupVersion string) bool {
	return slices.ContainsFunc(n.Status.Conditions, func(c corev1.NamespaceCondition) bool {
		return (c.Type == corev1.NamespaceDeletionDiscoveryFailure || c.Type == corev1.NamespaceDeletionGVParsingFailure) &&
			c.Status == corev1.ConditionTrue && diagnosis.Mentions(c.Message, groupVersion)
	})
}

// whyIdle is the reason for which an autoscaler does not scale; empty if it does.
func whyIdle(h *autoscalingv2.HorizontalPodAutoscaler) string {
	for _, c := range h.Status.Conditions {
		if c.Type == autoscalingv2.ScalingActive && c.Status == corev1.ConditionFalse {
			return c.Reason
		}
	}
	return ""
}
