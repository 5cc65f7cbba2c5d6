package status

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/watch"
)

// frozen is an API server that takes connections and says nothing more.
type frozen struct {
	opens   bool
	watches atomic.Int32
}

func (f *frozen) list(context.Context) (listed, error) { return listed{resourceVersion: "1"}, nil }
func (f *frozen) refresh() time.Duration               { return 0 }
func (f *frozen) columns() []column                    { return nil }

func (f *frozen) watch(ctx context.Context, _ string) (watch.Interface, error) {
	f.watches.Add(1)
	if !f.opens {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	w := watch.NewFake()
	context.AfterFunc(ctx, w.Stop)
	return w, nil
}

func TestAWatchThatDoesNotBeginIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		updates := make(chan update)
		go follow(ctx, &frozen{}, listed{resourceVersion: "1"}, updates)
		select {
		case u := <-updates:
			if !errors.Is(u.lost, context.DeadlineExceeded) {
				t.Errorf("got %+v", u)
			}
		case <-time.After(time.Hour):
			t.Error("nothing is said for an hour")
		}
		cancel()
		synctest.Wait()
	})
}

func TestAWatchThatSaysNothingEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		src := &frozen{opens: true}
		go follow(ctx, src, listed{resourceVersion: "1"}, make(chan update))
		time.Sleep(time.Hour) // of a clock that does not wait
		if n := src.watches.Load(); n < 2 {
			t.Errorf("%d watch in an hour", n)
		}
		cancel()
		synctest.Wait()
	})
}
