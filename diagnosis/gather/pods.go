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
	// maxWorkloads is how many of a kind are read in one namespace.
	maxWorkloads = pageSize * maxPages
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
	selector := labels.SelectorFromSet(s.Spec.Selector).String()
	return once(&g.memo, "pods "+s.Namespace+" "+selector, func() diagnosis.Known[[]diagnosis.Pod] {
		pods, err := list(ctx, g.cluster, "/api/v1/namespaces/"+s.Namespace+"/pods", selecting("labelSelector", selector), maxPods, func(p corev1.Pod) (diagnosis.Pod, bool) {
			p.ManagedFields = nil
			return diagnosis.Pod{Object: p}, true
		})
		slices.SortStableFunc(pods, func(a, b diagnosis.Pod) int { return cmp.Compare(rank(a), rank(b)) })
		return diagnosis.Look(pods, err)
	})
}

// loud are the Pods with what they, and others, say of them.
func (g *gathering) loud(ctx context.Context, quiet []diagnosis.Pod) []diagnosis.Pod {
	pods := slices.Clone(quiet) // those are shared
	var group sync.WaitGroup
	for i := range pods[:min(len(pods), maxLoud)] {
		p := &pods[i]
		name := p.Object.Namespace + "/" + p.Object.Name
		group.Go(func() {
			p.Logs = once(&g.memo, "logs "+name, func() diagnosis.Known[[]diagnosis.Log] { return g.logs(ctx, &p.Object) })
		})
		group.Go(func() {
			p.Events = once(&g.memo, "events "+name, func() diagnosis.Known[[]string] { return g.events(ctx, &p.Object) })
		})
	}
	group.Wait()
	return pods
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
			query := url.Values{"container": {s.Name}, "tailLines": {logLines}, "timestamps": {"true"}}
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
	every := once(&g.memo, "workloads "+s.Namespace, func() diagnosis.Known[[]diagnosis.Workload] {
		path := "/apis/apps/v1/namespaces/" + s.Namespace
		var deployments, sets, daemons []diagnosis.Workload
		var errs [3]error
		together(
			func() {
				deployments, errs[0] = list(ctx, g.cluster, path+"/deployments", nil, maxWorkloads, func(d appsv1.Deployment) (diagnosis.Workload, bool) { return deployment(d), true })
			},
			func() {
				sets, errs[1] = list(ctx, g.cluster, path+"/statefulsets", nil, maxWorkloads, func(d appsv1.StatefulSet) (diagnosis.Workload, bool) { return statefulSet(d), true })
			},
			func() {
				daemons, errs[2] = list(ctx, g.cluster, path+"/daemonsets", nil, maxWorkloads, func(d appsv1.DaemonSet) (diagnosis.Workload, bool) { return daemonSet(d), true })
			},
		)
		return diagnosis.Look(slices.Concat(deployments, sets, daemons), cmp.Or(errs[:]...))
	})
	if why := every.Why(); why != nil {
		return diagnosis.Unseen[[]diagnosis.Workload](why)
	}
	found := []diagnosis.Workload{}
	for _, w := range every.Value {
		if len(found) < maxPods && selects(s.Spec.Selector, w.Labels) {
			found = append(found, w)
		}
	}
	return diagnosis.Saw(found)
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

// revision is what a Deployment was before, or is.
type revision struct {
	owners  []metav1.OwnerReference
	created metav1.Time
	ports   []int32
}

// withEarlierPorts are workloads with the container ports that Deployments had in earlier revisions, oldest
// first, and have no more. Without them the rest stands.
func (g *gathering) withEarlierPorts(ctx context.Context, namespace string, shared []diagnosis.Workload) []diagnosis.Workload {
	workloads := slices.Clone(shared)
	for i := range workloads {
		w := &workloads[i]
		if w.Kind != "Deployment" {
			continue
		}
		revisions := once(&g.memo, "replicasets "+namespace, func() []revision {
			found, _ := list(ctx, g.cluster, "/apis/apps/v1/namespaces/"+namespace+"/replicasets", nil, maxWorkloads, func(r appsv1.ReplicaSet) (revision, bool) {
				return revision{r.OwnerReferences, r.CreationTimestamp, ports(r.Spec.Template.Spec)}, true
			})
			slices.SortStableFunc(found, func(a, b revision) int { return a.created.Compare(b.created.Time) })
			return found
		})
		now := ports(w.Template)
		for _, r := range revisions {
			if !slices.ContainsFunc(r.owners, func(o metav1.OwnerReference) bool { return o.Kind == w.Kind && o.Name == w.Name }) {
				continue
			}
			for _, p := range r.ports {
				if !slices.Contains(now, p) && !slices.Contains(w.EarlierPorts, p) {
					w.EarlierPorts = append(w.EarlierPorts, p)
				}
			}
		}
	}
	return workloads
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
