package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/klog/v2"

	"github.com/annex-api/annex/extension/internal/kind"
)

// deleteWorkers is how many objects of a collection are deleted at a time.
const deleteWorkers = 4

// resource is the main resource. A panic in a hook ends the request with 500, and
// nothing else.
type resource struct {
	*registry.Store
	kind *kind.Kind
	// page is deletePage.
	page int64
	rest.ResetFieldsFilterStrategy
}

// GetResetFields is never called. It hides the generic store's own method of this name: a
// storage may have that one or a filter, and not both.
func (*resource) GetResetFields() {}

var (
	_ rest.StandardStorage      = &resource{}
	_ rest.ShortNamesProvider   = &resource{}
	_ rest.CategoriesProvider   = &resource{}
	_ rest.SingularNameProvider = &resource{}
)

func (r *resource) ShortNames() []string { return r.kind.Names.Short }
func (r *resource) Categories() []string { return r.kind.Names.Categories }

func (r *resource) Create(ctx context.Context, obj runtime.Object, validate rest.ValidateObjectFunc, o *metav1.CreateOptions) (_ runtime.Object, err error) {
	defer recovered(ctx, r.kind, "create", &err)
	return r.Store.Create(ctx, obj, validate, o)
}

func (r *resource) Update(ctx context.Context, name string, info rest.UpdatedObjectInfo, create rest.ValidateObjectFunc,
	update rest.ValidateObjectUpdateFunc, force bool, o *metav1.UpdateOptions,
) (_ runtime.Object, _ bool, err error) {
	defer recovered(ctx, r.kind, "update", &err)
	return r.Store.Update(ctx, name, through{info, r.kind}, create, update, force, o)
}

func (r *resource) Delete(ctx context.Context, name string, validate rest.ValidateObjectFunc, o *metav1.DeleteOptions) (_ runtime.Object, _ bool, err error) {
	defer recovered(ctx, r.kind, "delete", &err)
	return r.Store.Delete(ctx, name, r.validateDelete(validate), o)
}

// validateDelete has the user's hook asked before admission is.
func (r *resource) validateDelete(next rest.ValidateObjectFunc) rest.ValidateObjectFunc {
	hook := r.kind.Hooks.ValidateDelete
	if hook == nil {
		return next
	}
	return func(ctx context.Context, obj runtime.Object) error {
		if err := hook(ctx, obj.DeepCopyObject()); err != nil {
			if status := apierrors.APIStatus(nil); errors.As(err, &status) {
				return err
			}
			name := ""
			if m, err := meta.Accessor(obj); err == nil {
				name = m.GetName()
			}
			return apierrors.NewForbidden(r.kind.Resource(), name, err)
		}
		if next == nil {
			return nil
		}
		return next(ctx, obj)
	}
}

// deletePage is how many objects of a collection are listed at a time.
const deletePage = 1000

// DeleteCollection deletes what a list with the given options has, a page at a time. The
// generic store's own would run hooks on goroutines where a panic ends the process.
func (r *resource) DeleteCollection(ctx context.Context, validate rest.ValidateObjectFunc, o *metav1.DeleteOptions, l *internalversion.ListOptions) (runtime.Object, error) {
	if l == nil {
		l = &internalversion.ListOptions{}
	} else {
		l = l.DeepCopy()
	}
	limited := l.Limit > 0
	if !limited {
		l.Limit = r.page
	}
	var all []runtime.Object
	for {
		page, err := r.List(ctx, l)
		if err != nil {
			return nil, err
		}
		if _, err := DeleteEach(ctx, page, func(ctx context.Context, name string) error {
			_, _, err := r.Delete(ctx, name, validate, o.DeepCopy())
			return err
		}); err != nil {
			return nil, err
		}
		m, err := meta.ListAccessor(page)
		if err != nil {
			return nil, apierrors.NewInternalError(err)
		}
		if len(all) == 0 && (limited || m.GetContinue() == "") {
			return page, nil
		}
		items, err := meta.ExtractList(page)
		if err != nil {
			return nil, apierrors.NewInternalError(err)
		}
		all = append(all, items...)
		if m.GetContinue() == "" {
			m.SetRemainingItemCount(nil)
			return page, meta.SetList(page, all)
		}
		l.Continue, l.ResourceVersion, l.ResourceVersionMatch = m.GetContinue(), "", "" // the token has the version
	}
}

// DeleteEach deletes the objects of a list by their names, some at a time, until one
// fails. What is gone already is no failure. It gives the list.
func DeleteEach(ctx context.Context, listed runtime.Object, remove func(ctx context.Context, name string) error) (runtime.Object, error) {
	items, err := meta.ExtractList(listed)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	var (
		work   = make(chan string)
		mu     sync.Mutex
		failed error
		group  sync.WaitGroup
	)
	ctx = context.WithValue(ctx, ownGoroutineKey{}, true)
	for range min(deleteWorkers, len(items)) {
		group.Go(func() {
			for name := range work {
				if err := remove(ctx, name); err != nil && !apierrors.IsNotFound(err) {
					mu.Lock()
					failed = errors.Join(failed, err)
					mu.Unlock()
				}
			}
		})
	}
	for _, item := range items {
		m, err := meta.Accessor(item)
		if err != nil {
			continue // it is no object, and has no name to delete it by
		}
		mu.Lock()
		stop := failed != nil || ctx.Err() != nil
		mu.Unlock()
		if stop {
			break
		}
		work <- m.GetName()
	}
	close(work)
	group.Wait()
	if failed == nil {
		failed = ctx.Err()
	}
	if failed != nil {
		return nil, first(failed)
	}
	return listed, nil
}

// first gives the first of joined errors: it has a status of its own.
func first(err error) error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return first(joined.Unwrap()[0])
	}
	return err
}

func (r *resource) Get(ctx context.Context, name string, o *metav1.GetOptions) (_ runtime.Object, err error) {
	defer recovered(ctx, r.kind, "get", &err)
	return r.Store.Get(ctx, name, o)
}

func (r *resource) List(ctx context.Context, o *internalversion.ListOptions) (_ runtime.Object, err error) {
	defer recovered(ctx, r.kind, "list", &err)
	return r.Store.List(ctx, o)
}

func (r *resource) Watch(ctx context.Context, o *internalversion.ListOptions) (_ watch.Interface, err error) {
	defer recovered(ctx, r.kind, "watch", &err)
	return r.Store.Watch(ctx, o)
}

func (p *partial) New() runtime.Object { return p.kind.New() }

// Destroy has nothing to do: the store belongs to the main resource.
func (p *partial) Destroy() {}

func (p *partial) Get(ctx context.Context, name string, o *metav1.GetOptions) (_ runtime.Object, err error) {
	defer recovered(ctx, p.kind, "get", &err)
	return p.store.Get(ctx, name, o)
}

// Update never creates: there must be an object to change a part of.
func (p *partial) Update(ctx context.Context, name string, info rest.UpdatedObjectInfo, create rest.ValidateObjectFunc,
	update rest.ValidateObjectUpdateFunc, _ bool, o *metav1.UpdateOptions,
) (_ runtime.Object, _ bool, err error) {
	defer recovered(ctx, p.kind, "update", &err)
	return p.store.Update(ctx, name, through{info, p.kind}, create, update, false, o)
}

func (p *partial) ConvertToTable(ctx context.Context, obj, options runtime.Object) (*metav1.Table, error) {
	return p.store.ConvertToTable(ctx, obj, options)
}

// Recovered is for who runs hooks of a kind elsewhere, to be deferred.
func Recovered(ctx context.Context, k *kind.Kind, verb string, err *error) {
	settle(ctx, k, verb, recover(), err)
}

// recovered makes an error of a panic, and logs where it came from.
func recovered(ctx context.Context, k *kind.Kind, verb string, err *error) {
	settle(ctx, k, verb, recover(), err)
}

// ownGoroutineKey marks what does not run on the goroutine of its request, where a panic
// would be nobody's.
type ownGoroutineKey struct{}

func ownGoroutine(ctx context.Context) bool {
	own, _ := ctx.Value(ownGoroutineKey{}).(bool)
	return own
}

func settle(ctx context.Context, k *kind.Kind, verb string, p any, err *error) {
	switch p := p.(type) {
	case nil:
	case failure:
		*err = apierrors.NewInternalError(p.error)
	default:
		if p == http.ErrAbortHandler && !ownGoroutine(ctx) { //nolint:errorlint // it is the value itself that is thrown
			panic(p)
		}
		klog.FromContext(ctx).Error(fmt.Errorf("panic: %v", p), "A hook panicked", "resource", k.Resource().String(), "verb", verb, "stack", string(debug.Stack()))
		*err = apierrors.NewInternalError(fmt.Errorf("a hook of %s panicked while it was to %s", k.Resource(), verb))
	}
}
