package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/storage"
)

var errGone = errors.New("gone")

// probed starts a reach whose storage is there while the value is true.
func probed(t *testing.T, there *atomic.Bool) *reach {
	r := startReach(logr.Discard(), "test storage", func(context.Context) error {
		if there.Load() {
			return nil
		}
		return errGone
	}, func(context.Context) error { return nil })
	t.Cleanup(r.stop)
	return r
}

func TestReadyFollowsTheStorage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var there atomic.Bool
		r := probed(t, &there)
		if err := r.ready(); err == nil {
			t.Error("ready before the first answer")
		}
		synctest.Wait()
		if err := r.ready(); !errors.Is(err, errGone) || !strings.Contains(err.Error(), "test storage") {
			t.Errorf("away: %v", err)
		}
		there.Store(true)
		time.Sleep(probeAgainAfter)
		synctest.Wait()
		if err := r.ready(); err != nil {
			t.Errorf("there: %v", err)
		}
		there.Store(false)
		time.Sleep(probeEvery)
		synctest.Wait()
		if err := r.ready(); !errors.Is(err, errGone) {
			t.Errorf("away again: %v", err)
		}
	})
}

// A storage that is being opened is asked often, and is not away before it had its moment.
func TestAStorageThatIsBeingOpenedIsNotAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var there atomic.Bool
		r := probed(t, &there)
		time.Sleep(10 * openingPause)
		if err := r.awayError(); err != nil {
			t.Errorf("away: %v", err)
		}
		there.Store(true)
		time.Sleep(openingPause)
		synctest.Wait()
		if err := r.ready(); err != nil {
			t.Errorf("there: %v", err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		var there atomic.Bool
		r := probed(t, &there)
		time.Sleep(3 * probeAgainAfter)
		synctest.Wait()
		if err := r.awayError(); !errors.Is(err, errGone) {
			t.Errorf("a storage that does not open: %v", err)
		}
	})
}

// One failed probe makes the server unready; requests are refused after another one.
func TestRequestsInFlightEndWhenTheStorageGoesAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var there atomic.Bool
		there.Store(true)
		r := probed(t, &there)
		synctest.Wait()
		a := &available{Interface: hanging{}, name: r.name, reach: r}
		answer := make(chan error, 1)
		go func() { answer <- a.Get(t.Context(), "/pods/a", storage.GetOptions{}, nil) }()

		there.Store(false)
		time.Sleep(probeEvery)
		synctest.Wait()
		select {
		case err := <-answer:
			t.Errorf("one failed probe ended a request: %v", err)
		default:
		}
		time.Sleep(probeAgainAfter)
		synctest.Wait()
		if err := <-answer; !apierrors.IsServiceUnavailable(err) {
			t.Errorf("request in flight: %v", err)
		}
		if err := a.Create(t.Context(), "/pods/a", nil, nil, 0); !apierrors.IsServiceUnavailable(err) {
			t.Errorf("request while away: %v", err)
		}

		there.Store(true)
		time.Sleep(probeAgainAfter)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		start := time.Now()
		if err := a.Get(ctx, "/pods/a", storage.GetOptions{}, nil); !apierrors.IsServiceUnavailable(err) {
			t.Errorf("request after it is back: %v", err)
		}
		if took := time.Since(start); took != time.Hour {
			t.Errorf("a request after the storage is back ended after %v", took)
		}
	})
}

func TestTheCallersOwnEndStaysItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var there atomic.Bool
		there.Store(true)
		r := probed(t, &there)
		synctest.Wait()
		a := &available{Interface: hanging{}, name: r.name, reach: r}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := a.Get(ctx, "/pods/a", storage.GetOptions{}, nil); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
	})
}

// hanging answers nothing until the context ends.
type hanging struct{ storage.Interface }

func (hanging) Get(ctx context.Context, _ string, _ storage.GetOptions, _ runtime.Object) error {
	<-ctx.Done()
	return ctx.Err()
}

func (hanging) Create(ctx context.Context, _ string, _, _ runtime.Object, _ uint64) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestErrorsOfTheStorage(t *testing.T) {
	notFound := apierrors.NewNotFound(schema.GroupResource{Resource: "pods"}, "a")
	conflict := storage.NewResourceVersionConflictsError("/pods/a", 1)
	unknown := errors.New("unknown")
	is := func(want error) func(error) bool { return func(got error) bool { return errors.Is(got, want) } }
	a := &available{name: "test storage", reach: &reach{}}
	for name, c := range map[string]struct {
		err  error
		want func(error) bool
	}{
		"none":                        {nil, is(nil)},
		"not found":                   {notFound, is(notFound)},
		"a conflict":                  {conflict, is(conflict)},
		"unknown":                     {unknown, is(unknown)},
		"cancelled":                   {context.Canceled, is(context.Canceled)},
		"a deadline":                  {fmt.Errorf("list: %w", context.DeadlineExceeded), apierrors.IsServiceUnavailable},
		"a deadline of the transport": {status.Error(codes.DeadlineExceeded, "late"), apierrors.IsServiceUnavailable},
		"unavailable":                 {status.Error(codes.Unavailable, "connection refused"), apierrors.IsServiceUnavailable},
		"etcd without a leader":       {rpctypes.ErrNoLeader, apierrors.IsServiceUnavailable},
		"etcd under load":             {rpctypes.ErrTooManyRequests, apierrors.IsServiceUnavailable},
		"a full disk":                 {rpctypes.ErrNoSpace, apierrors.IsInternalError},
		"an empty watch cache":        {apierrors.NewTooManyRequests("not ready", 1), apierrors.IsTooManyRequests},
	} {
		if got := a.explain(c.err); !c.want(got) {
			t.Errorf("%s: %v", name, got)
		}
	}
	if err := a.explain(rpctypes.ErrNoSpace); !strings.Contains(err.Error(), "free some space") {
		t.Errorf("a full disk without its remedy: %v", err)
	}
	a.reach = &reach{failed: awayAfter, err: errGone}
	if err := a.explain(apierrors.NewTooManyRequests("not ready", 1)); !apierrors.IsServiceUnavailable(err) {
		t.Errorf("an empty watch cache while the storage is away: %v", err)
	}
}
