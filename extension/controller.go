package extension

import (
	"errors"
	"fmt"
	"reflect"
	"strings"

	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/annex-api/annex/extension/internal/controllers"
)

// Controller runs a controller of controller-runtime beside the server, or alone, by
// [NewControllers]. setup adds it to a manager, whose client and caches reach this
// server's kinds and the host's. Where controllers start anew, because a lease was lost,
// setup is called again with another manager.
func Controller(name string, setup func(mgr manager.Manager) error) Part {
	return controllerPart{name, setup}
}

// Reconcile is a Controller of one kind, T, with usual settings: it works on one object
// at a time, four of them at once, and tries again with growing pauses. newReconciler gets
// the manager, for its client.
func Reconcile[T any](newReconciler func(mgr manager.Manager) (reconcile.Reconciler, error)) Part {
	name := strings.ToLower(reflect.TypeFor[T]().Name())
	return Controller(name, func(mgr manager.Manager) error {
		object, ok := any(new(T)).(client.Object)
		if !ok {
			return fmt.Errorf("%v is no object of Kubernetes", reflect.TypeFor[T]())
		}
		r, err := newReconciler(mgr)
		if err != nil {
			return err
		}
		return builder.ControllerManagedBy(mgr).Named(name).For(object).
			WithOptions(controller.Options{MaxConcurrentReconciles: defaultWorkers}).Complete(r)
	})
}

// defaultWorkers is how many objects of a kind are worked on at a time.
const defaultWorkers = 4

type controllerPart struct {
	name  string
	setup func(mgr manager.Manager) error
}

func isController(p Part) bool { _, ok := p.(controllerPart); return ok }

func (c controllerPart) addTo(a *assembly) error {
	switch {
	case c.name == "":
		return errors.New("a controller has no name")
	case c.setup == nil:
		return fmt.Errorf("controller %s: it has no setup", c.name)
	}
	for _, other := range a.controllers {
		if other.Name == c.name {
			return fmt.Errorf("controller %s: there is already one of this name", c.name)
		}
	}
	a.controllers = append(a.controllers, controllers.Setup{Name: c.name, Add: c.setup})
	return nil
}
