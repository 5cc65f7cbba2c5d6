package gather

import (
	"cmp"
	"context"
	"net/url"
	"slices"
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/annex-api/annex/diagnosis"
)

const (
	// maxLoud is of how many Pods logs and events are read, of each at most maxContainers.
	maxLoud, maxContainers = 5, 5
	// logLines and maxLog bound what is read of a container's log.
	logLines, maxLog = "50", 64 << 10
	// maxEvents is how many events of a Pod are kept, and maxEvent how much of each.
	maxEvents, maxEvent = 10, 1000
)

// pods are those that a Service selects, those that are not ready first.
func (g *gathering) pods(ctx context.Context, s *corev1.Service) diagnosis.Known[[]diagnosis.Pod] {
	if len(s.Spec.Selector) == 0 {
		return diagnosis.Saw([]diagnosis.Pod{}) // it selects nothing, and its endpoints are made by hand
	}
	query := selecting("labelSelector", labels.SelectorFromSet(s.Spec.Selector).String())
	pods, err := list(ctx, g.cluster, "/api/v1/namespaces/"+s.Namespace+"/pods", query, maxPods, func(p corev1.Pod) (diagnosis.Pod, bool) {
		p.ManagedFields = nil
		return diagnosis.Pod{Object: p}, true
	})
	if err != nil {
		return diagnosis.Unseen[[]diagnosis.Pod](err)
	}
	slices.SortStableFunc(pods, func(a, b diagnosis.Pod) int { return cmp.Compare(rank(a), rank(b)) })
	var group sync.WaitGroup
	for i := range pods[:min(len(pods), maxLoud)] {
		p := &pods[i]
		group.Go(func() { p.Logs = g.logs(ctx, &p.Object) })
		group.Go(func() { p.Events = g.events(ctx, &p.Object) })
	}
	group.Wait()
	return diagnosis.Saw(pods)
}

func rank(p diagnosis.Pod) int {
	if ready(p.Object) {
		return 1
	}
	return 0
}

// logs are the last lines of a Pod's containers, and of the run before where there was one.
func (g *gathering) logs(ctx context.Context, p *corev1.Pod) diagnosis.Known[[]diagnosis.Log] {
	path := "/api/v1/namespaces/" + p.Namespace + "/pods/" + p.Name + "/log"
	found := []diagnosis.Log{}
	var last error
	statuses := append(slices.Clone(p.Status.InitContainerStatuses), p.Status.ContainerStatuses...)
	for _, s := range statuses[:min(len(statuses), maxContainers)] {
		if s.State.Waiting != nil && s.RestartCount == 0 {
			continue // it has not run
		}
		for _, previous := range []bool{true, false} {
			if previous && s.RestartCount == 0 {
				continue
			}
			query := url.Values{"container": {s.Name}, "tailLines": {logLines}}
			if previous {
				query.Set("previous", "true")
			}
			a, err := g.ask(ctx, request{path: path, query: query, accept: "*/*", most: maxLog})
			if err == nil {
				err = refusal(path, a)
			}
			if err != nil {
				last = err
				continue
			}
			found = append(found, diagnosis.Log{Container: s.Name, Previous: previous, Lines: lines(a.body)})
		}
	}
	if len(found) == 0 && last != nil {
		return diagnosis.Unseen[[]diagnosis.Log](last)
	}
	return diagnosis.Saw(found)
}

// events are the latest warnings about a Pod.
func (g *gathering) events(ctx context.Context, p *corev1.Pod) diagnosis.Known[[]string] {
	query := selecting("fieldSelector", "type=Warning,involvedObject.kind=Pod,involvedObject.name="+p.Name)
	events, err := list(ctx, g.cluster, "/api/v1/namespaces/"+p.Namespace+"/events", query, pageSize, all[corev1.Event])
	if err != nil {
		return diagnosis.Unseen[[]string](err)
	}
	slices.SortStableFunc(events, func(a, b corev1.Event) int { return b.LastTimestamp.Compare(a.LastTimestamp.Time) })
	messages := []string{}
	for _, e := range events[:min(len(events), maxEvents)] {
		text := e.Reason + ": " + e.Message
		messages = append(messages, text[:min(len(text), maxEvent)])
	}
	return diagnosis.Saw(messages)
}

// workloads are what makes the Pods that a Service selects.
func (g *gathering) workloads(ctx context.Context, s *corev1.Service) diagnosis.Known[[]diagnosis.Workload] {
	path := "/apis/apps/v1/namespaces/" + s.Namespace
	deployments, err := list(ctx, g.cluster, path+"/deployments", nil, maxPods, func(d appsv1.Deployment) (diagnosis.Workload, bool) {
		w := deployment(d)
		return w, selects(s.Spec.Selector, w.Labels)
	})
	if err != nil {
		return diagnosis.Unseen[[]diagnosis.Workload](err)
	}
	for i := range deployments {
		// Without them the rest stands.
		deployments[i].EarlierPorts, _ = g.earlierPorts(ctx, path, deployments[i])
	}
	sets, err := list(ctx, g.cluster, path+"/statefulsets", nil, maxPods, func(d appsv1.StatefulSet) (diagnosis.Workload, bool) {
		w := statefulSet(d)
		return w, selects(s.Spec.Selector, w.Labels)
	})
	if err != nil {
		return diagnosis.Unseen[[]diagnosis.Workload](err)
	}
	daemons, err := list(ctx, g.cluster, path+"/daemonsets", nil, maxPods, func(d appsv1.DaemonSet) (diagnosis.Workload, bool) {
		w := daemonSet(d)
		return w, selects(s.Spec.Selector, w.Labels)
	})
	if err != nil {
		return diagnosis.Unseen[[]diagnosis.Workload](err)
	}
	return diagnosis.Saw(slices.Concat(deployments, sets, daemons))
}

func deployment(d appsv1.Deployment) diagnosis.Workload {
	w := diagnosis.Workload{
		Kind: "Deployment", Name: d.Name, Desired: 1, Ready: d.Status.ReadyReplicas,
		Template: d.Spec.Template.Spec, Labels: d.Spec.Template.Labels,
	}
	if d.Spec.Replicas != nil {
		w.Desired = *d.Spec.Replicas
	}
	for _, c := range d.Status.Conditions {
		if c.Type == appsv1.DeploymentReplicaFailure && c.Status == corev1.ConditionTrue {
			w.Problem = c.Message[:min(len(c.Message), maxMessage)]
		}
	}
	return w
}

// earlierPorts are the container ports that a Deployment had in earlier revisions, oldest first, and has
// no more.
func (g *gathering) earlierPorts(ctx context.Context, path string, w diagnosis.Workload) ([]int32, error) {
	sets, err := list(ctx, g.cluster, path+"/replicasets", nil, maxPods, func(r appsv1.ReplicaSet) (appsv1.ReplicaSet, bool) {
		return r, slices.ContainsFunc(r.OwnerReferences, func(o metav1.OwnerReference) bool { return o.Kind == w.Kind && o.Name == w.Name })
	})
	slices.SortStableFunc(sets, func(a, b appsv1.ReplicaSet) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) })
	now := ports(w.Template)
	var earlier []int32
	for _, r := range sets {
		for _, p := range ports(r.Spec.Template.Spec) {
			if !slices.Contains(now, p) && !slices.Contains(earlier, p) {
				earlier = append(earlier, p)
			}
		}
	}
	return earlier, err
}

func ports(spec corev1.PodSpec) []int32 {
	var all []int32
	for _, c := range spec.Containers {
		for _, p := range c.Ports {
			all = append(all, p.ContainerPort)
		}
	}
	return all
}

func statefulSet(d appsv1.StatefulSet) diagnosis.Workload {
	w := diagnosis.Workload{
		Kind: "StatefulSet", Name: d.Name, Desired: 1, Ready: d.Status.ReadyReplicas,
		Template: d.Spec.Template.Spec, Labels: d.Spec.Template.Labels,
	}
	if d.Spec.Replicas != nil {
		w.Desired = *d.Spec.Replicas
	}
	return w
}

func daemonSet(d appsv1.DaemonSet) diagnosis.Workload {
	return diagnosis.Workload{
		Kind: "DaemonSet", Name: d.Name, Desired: d.Status.DesiredNumberScheduled, Ready: d.Status.NumberReady,
		Template: d.Spec.Template.Spec, Labels: d.Spec.Template.Labels,
	}
}
