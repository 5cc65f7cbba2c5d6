package view

import (
	"context"
	"fmt"
	"reflect"
	"runtime/debug"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/conversion"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/klog/v2"
)

// chunk is how many objects are looked at together for a page, at least.
const chunk = 500

// visible says whether the caller of ctx may see an object, or do with it what the verb
// says. Reads and writes ask here and nowhere else.
func (r *Resource) visible(ctx context.Context, verb string, object runtime.Object) (may bool, err error) {
	if r.config.Allowed == nil {
		return true, nil
	}
	defer func() {
		if p := recover(); p != nil {
			klog.FromContext(ctx).Error(fmt.Errorf("%v", p), "Allowed panicked", "resource", r.cache.Resource(), "verb", verb, "stack", string(debug.Stack()))
			may, err = false, apierrors.NewInternalError(fmt.Errorf("deciding who may %s %s: panic", verb, r.cache.Resource()))
		}
	}()
	return r.config.Allowed(ctx, verb, object), nil
}

// may refuses what the caller may not do with an object, as it is or as it would be.
func (r *Resource) may(ctx context.Context, verb, name string, object runtime.Object) error {
	switch may, err := r.visible(ctx, verb, object); {
	case err != nil:
		return err
	case !may:
		return apierrors.NewForbidden(r.cache.Resource(), name, fmt.Errorf("you may not %s an object like this", verb))
	}
	return nil
}

// visibleList lists what the caller may see. A page is filled up from what follows, and
// does not say how much remains, which would count what is hidden.
func (r *Resource) visibleList(ctx context.Context, root string, opts storage.ListOptions) (runtime.Object, error) {
	list := r.NewList()
	if r.config.Allowed == nil {
		return list, r.latestList(ctx, root, opts, list)
	}
	limit := int(opts.Predicate.Limit)
	if opts.ResourceVersion == "0" { // the cache does not cut such a list
		limit = 0
	}
	if limit > 0 {
		opts.Predicate.Limit = int64(max(limit, chunk))
	}
	kept, err := itemsOf(list)
	if err != nil {
		return nil, err
	}
	kept.Set(reflect.MakeSlice(kept.Type(), 0, 0))
	version := ""
	for {
		part := r.NewList()
		if err := r.latestList(ctx, root, opts, part); err != nil {
			return nil, err
		}
		m, err := meta.ListAccessor(part)
		if err != nil {
			return nil, err
		}
		if version == "" {
			version = m.GetResourceVersion()
		}
		items, err := itemsOf(part)
		if err != nil {
			return nil, err
		}
		for i := range items.Len() {
			object, ok := items.Index(i).Addr().Interface().(runtime.Object)
			if !ok {
				return nil, fmt.Errorf("the items of a list of %s are no objects", r.cache.Resource())
			}
			may, err := r.visible(ctx, "list", object)
			if err != nil {
				return nil, err
			}
			if !may {
				continue
			}
			kept.Set(reflect.Append(kept, items.Index(i)))
			if limit == 0 || kept.Len() < limit {
				continue
			}
			token := ""
			if i < items.Len()-1 || m.GetContinue() != "" {
				if token, err = r.goOnAfter(object, root, version); err != nil {
					return nil, err
				}
			}
			return list, setList(list, version, token)
		}
		if m.GetContinue() == "" {
			return list, setList(list, version, "")
		}
		opts.Predicate.Continue, opts.ResourceVersion, opts.ResourceVersionMatch = m.GetContinue(), "", ""
	}
}

// latestList lists objects as they are by now.
func (r *Resource) latestList(ctx context.Context, root string, opts storage.ListOptions, list runtime.Object) error {
	if err := r.cache.GetList(ctx, root, opts, list); err != nil {
		return err
	}
	items, err := itemsOf(list)
	if err != nil {
		return err
	}
	for i := range items.Len() {
		r.bringUpToDate(items.Index(i))
	}
	return nil
}

// bringUpToDate replaces an object of the cache, which watches fill, by what it has become since
// without a change to a watcher.
func (r *Resource) bringUpToDate(object reflect.Value) {
	if m, err := meta.Accessor(object.Addr().Interface()); err == nil {
		if latest := r.cache.Ring.Latest(m); latest != nil {
			object.Set(reflect.ValueOf(latest).Elem())
		}
	}
}

func itemsOf(list runtime.Object) (reflect.Value, error) {
	items, err := meta.GetItemsPtr(list)
	if err != nil {
		return reflect.Value{}, err
	}
	return conversion.EnforcePtr(items)
}

func setList(list runtime.Object, version, token string) error {
	m, err := meta.ListAccessor(list)
	if err != nil {
		return err
	}
	m.SetResourceVersion(version)
	m.SetContinue(token)
	return nil
}

// goOnAfter is the token for what follows an object in a list.
func (r *Resource) goOnAfter(last runtime.Object, root, version string) (string, error) {
	key, _, err := r.identify(last)
	if err != nil {
		return "", err
	}
	v, err := strconv.ParseInt(version, 10, 64)
	if err != nil {
		return "", err
	}
	return storage.EncodeContinue(key+"\x00", root, v)
}

// identify gives an object's key and resourceVersion. It reads metadata only, which costs nothing even
// where the object is one of the cache's that are copied on access.
func (r *Resource) identify(object runtime.Object) (key string, version uint64, err error) {
	m, err := meta.Accessor(object)
	if err != nil {
		return "", 0, err
	}
	version, err = strconv.ParseUint(m.GetResourceVersion(), 10, 64)
	return r.cache.Ring.Key(m.GetNamespace(), m.GetName()), version, err
}
