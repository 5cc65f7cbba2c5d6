package e2e

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/annex-api/annex/extension"
)

// replica is one of several that run the same controllers.
type replica struct {
	controllers *extension.Controllers
	// began counts how often its controllers began, and runs says that they do.
	began atomic.Int32
	runs  atomic.Bool
	stop  func()
}

// replicaOf runs controllers alone until the test ends, or stop.
func replicaOf(t *testing.T, c *cluster) *replica {
	t.Helper()
	r := &replica{}
	var err error
	r.controllers, err = extension.NewControllers(
		extension.Config{Name: "elects", Host: c.admin, LeaderElection: extension.LeaderElection{Namespace: "default"}},
		extension.Controller("watches", func(mgr manager.Manager) error {
			return mgr.Add(manager.RunnableFunc(func(ctx context.Context) error {
				r.began.Add(1)
				r.runs.Store(true)
				<-ctx.Done()
				r.runs.Store(false)
				return nil
			}))
		}))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- r.controllers.Run(ctx) }()
	stopped := false
	r.stop = func() {
		t.Helper()
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run gave %v", err)
		}
	}
	t.Cleanup(r.stop)
	return r
}

// TestExtensionControllersElect: of two replicas one runs the controllers. The other follows it
// when it stops. A lease that is lost ends the controllers, which say so, and not the
// process: they begin anew once it can be had.
func TestExtensionControllersElect(t *testing.T) {
	longForm(t)
	c := shared(t).cluster
	one := replicaOf(t, c)
	eventually(t, "nobody leads", func(context.Context) error {
		if !one.runs.Load() {
			return errors.New("its controllers do not run")
		}
		return nil
	})
	two := replicaOf(t, c)
	leases := c.kube.CoordinationV1().Leases("default")
	if two.runs.Load() {
		t.Error("both run")
	}
	one.stop()
	eventually(t, "the other does not follow", func(context.Context) error {
		if !two.runs.Load() {
			return errors.New("its controllers do not run")
		}
		return nil
	})
	var stolen *coordinationv1.Lease
	eventually(t, "the lease cannot be taken", func(ctx context.Context) (err error) {
		if stolen, err = leases.Get(ctx, "elects", metav1.GetOptions{}); err != nil {
			return err
		}
		stolen.Spec.HolderIdentity = new("thief")
		stolen.Spec.RenewTime = &metav1.MicroTime{Time: metav1.Now().Time}
		_, err = leases.Update(ctx, stolen, metav1.UpdateOptions{})
		return err
	})
	eventually(t, "a lost lease ends nothing", func(context.Context) error {
		if err := two.controllers.Healthy(); err == nil || two.runs.Load() {
			return fmt.Errorf("they run: %v, and say %v", two.runs.Load(), err)
		}
		return nil
	})
	if err := leases.Delete(t.Context(), "elects", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "they do not begin anew", func(context.Context) error {
		if err := two.controllers.Healthy(); err != nil || !two.runs.Load() || two.began.Load() != 2 {
			return fmt.Errorf("they run: %v, began %d times, and say %v", two.runs.Load(), two.began.Load(), err)
		}
		return nil
	})
}
