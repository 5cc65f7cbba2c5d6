package store

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/storage"
)

// available answers with the API's own errors where the storage is away or full. What needs the
// storage ends when the probe finds it away; what the watch cache alone can answer goes on.
type available struct {
	storage.Interface
	name  string
	reach *reach
}

func (a *available) Create(ctx context.Context, key string, obj, out runtime.Object, ttl uint64) error {
	return a.do(ctx, func(ctx context.Context) error { return a.Interface.Create(ctx, key, obj, out, ttl) })
}

func (a *available) Delete(ctx context.Context, key string, out runtime.Object, preconditions *storage.Preconditions, validate storage.ValidateObjectFunc, cached runtime.Object, opts storage.DeleteOptions) error {
	return a.do(ctx, func(ctx context.Context) error {
		return a.Interface.Delete(ctx, key, out, preconditions, validate, cached, opts)
	})
}

func (a *available) GuaranteedUpdate(ctx context.Context, key string, destination runtime.Object, ignoreNotFound bool, preconditions *storage.Preconditions, update storage.UpdateFunc, cached runtime.Object) error {
	return a.do(ctx, func(ctx context.Context) error {
		return a.Interface.GuaranteedUpdate(ctx, key, destination, ignoreNotFound, preconditions, update, cached)
	})
}

func (a *available) Get(ctx context.Context, key string, opts storage.GetOptions, out runtime.Object) error {
	if opts.ResourceVersion == "0" {
		return a.explain(a.Interface.Get(ctx, key, opts, out))
	}
	return a.do(ctx, func(ctx context.Context) error { return a.Interface.Get(ctx, key, opts, out) })
}

func (a *available) GetList(ctx context.Context, key string, opts storage.ListOptions, out runtime.Object) error {
	if opts.ResourceVersion == "0" {
		return a.explain(a.Interface.GetList(ctx, key, opts, out))
	}
	return a.do(ctx, func(ctx context.Context) error { return a.Interface.GetList(ctx, key, opts, out) })
}

func (a *available) Watch(ctx context.Context, key string, opts storage.ListOptions) (watch.Interface, error) {
	w, err := a.Interface.Watch(ctx, key, opts)
	return w, a.explain(err)
}

func (a *available) Stats(ctx context.Context) (stats storage.Stats, err error) {
	err = a.do(ctx, func(ctx context.Context) (err error) {
		stats, err = a.Interface.Stats(ctx)
		return err
	})
	return stats, err
}

func (a *available) GetCurrentResourceVersion(ctx context.Context) (rv uint64, err error) {
	err = a.do(ctx, func(ctx context.Context) (err error) {
		rv, err = a.Interface.GetCurrentResourceVersion(ctx)
		return err
	})
	return rv, err
}

// do runs what needs the storage.
func (a *available) do(ctx context.Context, operation func(context.Context) error) error {
	bounded, cancel := a.reach.bound(ctx)
	defer cancel()
	err := operation(bounded)
	if err != nil && bounded.Err() != nil && ctx.Err() == nil {
		// The caller is still there, so it is the storage that has gone.
		return a.away(context.Cause(bounded))
	}
	return a.explain(err)
}

// explain turns errors of the storage's transport into those of the API. All others stay as they are.
func (a *available) explain(err error) error {
	if err == nil {
		return nil
	}
	if isAPIError(err) {
		if away := a.reach.awayError(); away != nil && apierrors.IsTooManyRequests(err) {
			// An empty watch cache asks to come again soon; that is not it.
			return a.away(away)
		}
		return err
	}
	if errors.Is(err, rpctypes.ErrNoSpace) {
		return full(a.name)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return a.away(err)
	}
	switch codeOf(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.ResourceExhausted:
		return a.away(err)
	}
	return err
}

func (a *available) away(cause error) error {
	return apierrors.NewServiceUnavailable(fmt.Sprintf("%s does not answer: %v", a.name, cause))
}

// full is for the write alone: reads and deletions may well succeed.
func full(name string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status:  metav1.StatusFailure,
		Code:    http.StatusInternalServerError,
		Reason:  metav1.StatusReasonInternalError,
		Message: fmt.Sprintf("%s has no space left, so this was not stored; free some space, or raise its quota", name),
	}}
}

// isAPIError says whether the API server knows how to answer with an error as it is.
func isAPIError(err error) bool {
	var status apierrors.APIStatus
	var stored *storage.StorageError
	var internal storage.InternalError
	return errors.As(err, &status) || errors.As(err, &stored) || errors.As(err, &internal)
}

// codeOf is the gRPC code of an error, also of the etcd client's own kind.
func codeOf(err error) codes.Code {
	var etcd rpctypes.EtcdError
	if errors.As(err, &etcd) {
		return etcd.Code()
	}
	return status.Code(err)
}
