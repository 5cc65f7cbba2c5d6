package registry

import (
	"context"
	"reflect"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"

	"github.com/annex-api/annex/extension/internal/kind"
	"github.com/annex-api/annex/extension/internal/versions"
)

// through is an update that comes through the request's version. Where that cannot say
// all, patches and managed fields see the stored object as the version shows it: nobody
// loses a field that the client could neither see nor send. Admission, and all that
// comes after, see the whole.
type through struct {
	rest.UpdatedObjectInfo
	kind *kind.Kind
}

// UpdatedObject implements rest.UpdatedObjectInfo.
func (u through) UpdatedObject(ctx context.Context, old runtime.Object) (runtime.Object, error) {
	untype(old)
	identify(u.kind, old)
	version := versionOf(ctx, u.kind)
	if old.(metav1.Object).GetResourceVersion() == "" { // there is none yet, and so nothing to keep
		return untyped{u.UpdatedObjectInfo}.UpdatedObject(ctx, emptyIn(u.kind, version, old))
	}
	seen, err := versions.Seen(u.kind, version, old)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	if seen == old {
		return untyped{u.UpdatedObjectInfo}.UpdatedObject(ctx, old)
	}
	p := &partly{kind: u.kind, version: version, seen: seen, stored: old}
	obj, err := untyped{u.UpdatedObjectInfo}.UpdatedObject(context.WithValue(ctx, partlyKey{}, p), seen)
	if err != nil || obj == nil {
		return obj, err
	}
	return obj, p.complete(obj)
}

// emptyIn is what something new is compared with: as at a POST it is of the request's
// version. The hub's own may be nothing that a conversion can convert.
func emptyIn(k *kind.Kind, version string, hub runtime.Object) runtime.Object {
	if object, _, ok := k.Version(version); ok && version != k.Hub.Version {
		return object()
	}
	return hub
}

// versionOf is the version that a request comes through.
func versionOf(ctx context.Context, k *kind.Kind) string {
	if info, ok := request.RequestInfoFrom(ctx); ok && info.APIGroup == k.Hub.Group {
		return info.APIVersion
	}
	return k.Hub.Version
}

// partly is an update in which something of the stored object cannot be seen.
type partly struct {
	kind         *kind.Kind
	version      string
	seen, stored runtime.Object
	completed    bool
}

type partlyKey struct{}

// complete puts back into obj what could not be seen; once, for what admission takes
// away afterwards is not to come back. The one that was seen becomes the stored one.
func (p *partly) complete(obj runtime.Object) error {
	if p.completed {
		return nil
	}
	if err := versions.KeepHubOnly(p.kind, p.version, obj, p.stored); err != nil {
		return apierrors.NewInternalError(err)
	}
	if obj != p.seen {
		reflect.ValueOf(p.seen).Elem().Set(reflect.ValueOf(p.stored.DeepCopyObject()).Elem())
	}
	p.completed = true
	return nil
}

// untyped has objects without kind and version compared: one that was decoded has
// them, one that was converted has none, and that is no difference.
type untyped struct{ rest.UpdatedObjectInfo }

func (u untyped) UpdatedObject(ctx context.Context, old runtime.Object) (runtime.Object, error) {
	untype(old)
	obj, err := u.UpdatedObjectInfo.UpdatedObject(ctx, old)
	if obj != nil {
		untype(obj)
	}
	return obj, err
}

// untype takes kind and version from an object that its Go type tells the kind of.
func untype(obj runtime.Object) {
	if _, untyped := obj.(runtime.Unstructured); !untyped {
		obj.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
	}
}
