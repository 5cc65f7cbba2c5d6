package kubeapiserver

import (
	"context"
	"os"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

// ownNode is what the Node of this machine is called, as kubelet does it.
func ownNode() (string, error) {
	name, err := os.Hostname()
	return strings.ToLower(strings.TrimSpace(name)), err
}

// followZone tells set the zone that a Node's label names, and again whenever
// it changes, until ctx ends. A Node that does not exist yet is waited for; it
// is the only one that is watched.
func followZone(ctx context.Context, client kubernetes.Interface, node string, set func(zone string)) {
	nodes := client.CoreV1().Nodes()
	selector := fields.OneTermEqualSelector(metav1.ObjectNameField, node).String()
	learn := func(o any) {
		if n, ok := o.(*corev1.Node); ok && n.Name == node {
			zone := n.Labels[corev1.LabelTopologyZone]
			klog.FromContext(ctx).V(2).Info("This server's zone is its Node's", "node", node, "zone", zone)
			set(zone)
		}
	}
	_, informer := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
			ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
				o.FieldSelector = selector
				return nodes.List(ctx, o)
			},
			WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
				o.FieldSelector = selector
				return nodes.Watch(ctx, o)
			},
		}, client),
		ObjectType: &corev1.Node{},
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc: learn,
			UpdateFunc: func(before, after any) {
				b, bok := before.(*corev1.Node)
				a, aok := after.(*corev1.Node)
				if bok && aok && b.Labels[corev1.LabelTopologyZone] != a.Labels[corev1.LabelTopologyZone] {
					learn(after)
				}
			},
			// A Node that is gone for a moment does not move the machine.
		},
		Transform: func(o any) (any, error) {
			n, ok := o.(*corev1.Node)
			if !ok {
				return o, nil
			}
			return &corev1.Node{ObjectMeta: metav1.ObjectMeta{
				Name: n.Name, UID: n.UID, ResourceVersion: n.ResourceVersion,
				Labels: map[string]string{corev1.LabelTopologyZone: n.Labels[corev1.LabelTopologyZone]},
			}}, nil
		},
	})
	informer.RunWithContext(ctx)
}
