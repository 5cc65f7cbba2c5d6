package widgets

import (
	"context"
	"fmt"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	v1 "github.com/annex-api/annex/examples/widgets/v1"
	"github.com/annex-api/annex/extension"
)

// Controller brings the status of widgets up to what is wanted of them.
var Controller = extension.Reconcile[v1.Widget](func(mgr manager.Manager) (reconcile.Reconciler, error) {
	return &reconciler{mgr.GetClient()}, nil
})

type reconciler struct{ client client.Client }

// Reconcile makes as many as are wanted: here, it says so.
func (r *reconciler) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	var w v1.Widget
	if err := r.client.Get(ctx, request.NamespacedName, &w); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	wanted := *w.Spec.Replicas
	if w.Status.Replicas == wanted && w.Status.Phase == "Ready" {
		return reconcile.Result{}, nil
	}
	w.Status.Replicas, w.Status.Phase = wanted, "Ready"
	w.Status.Selector = "widget=" + w.Name
	if err := r.client.Status().Update(ctx, &w); err != nil {
		return reconcile.Result{}, fmt.Errorf("write the status of %s: %w", request, err)
	}
	return reconcile.Result{}, nil
}
