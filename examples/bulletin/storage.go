package bulletin

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/generic"
	"k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/storage"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	demov1 "github.com/annex-api/annex/examples/bulletin/v1"
)

// notices serves the resource itself. The generic store does all of the work:
// create, read, update, patch, apply, delete, list, watch.
type notices struct {
	*registry.Store
}

var (
	_ rest.StandardStorage    = notices{}
	_ rest.ShortNamesProvider = notices{}
)

func (notices) ShortNames() []string { return []string{"nt"} }

// noticeStatus serves the status subresource from the same stored objects.
type noticeStatus struct {
	store *registry.Store
}

var (
	_ rest.Patcher             = noticeStatus{}
	_ rest.TableConvertor      = noticeStatus{}
	_ rest.ResetFieldsStrategy = noticeStatus{}
)

// newStorage opens the store of notices; now is the clock that phases follow.
func newStorage(scheme *runtime.Scheme, options generic.RESTOptionsGetter, now func() time.Time) (notices, noticeStatus, error) {
	main := newStrategy(scheme, now)
	store := &registry.Store{
		NewFunc:                   func() runtime.Object { return &demov1.Notice{} },
		NewListFunc:               func() runtime.Object { return &demov1.NoticeList{} },
		PredicateFunc:             match,
		DefaultQualifiedResource:  schema.GroupResource{Group: demov1.GroupName, Resource: demov1.Resource},
		SingularQualifiedResource: schema.GroupResource{Group: demov1.GroupName, Resource: demov1.Singular},
		CreateStrategy:            main,
		UpdateStrategy:            main,
		DeleteStrategy:            main,
		ResetFieldsStrategy:       main,
		TableConvertor:            table{now: now},
	}
	if err := store.CompleteWithOptions(&generic.StoreOptions{RESTOptions: options, AttrFunc: attributes}); err != nil {
		return notices{}, noticeStatus{}, fmt.Errorf("open the store of %s: %w", demov1.Resource, err)
	}
	status := *store
	status.UpdateStrategy = statusStrategy{main}
	status.ResetFieldsStrategy = statusStrategy{main}
	return notices{store}, noticeStatus{&status}, nil
}

func match(label labels.Selector, field fields.Selector) storage.SelectionPredicate {
	return storage.SelectionPredicate{Label: label, Field: field, GetAttrs: attributes}
}

// attributes gives what label and field selectors are matched against.
func attributes(obj runtime.Object) (labels.Set, fields.Set, error) {
	n, ok := obj.(*demov1.Notice)
	if !ok {
		return nil, nil, fmt.Errorf("not a notice: %T", obj)
	}
	set := generic.ObjectMetaFieldsSet(&n.ObjectMeta, true)
	set[demov1.SeverityField] = string(n.Spec.Severity)
	return n.Labels, set, nil
}

func (noticeStatus) New() runtime.Object { return &demov1.Notice{} }

// Destroy has nothing to do: the store belongs to notices.
func (noticeStatus) Destroy() {}

func (s noticeStatus) Get(ctx context.Context, name string, o *metav1.GetOptions) (runtime.Object, error) {
	return s.store.Get(ctx, name, o)
}

// Update never creates: a status needs an object to be the status of.
func (s noticeStatus) Update(ctx context.Context, name string, info rest.UpdatedObjectInfo, create rest.ValidateObjectFunc,
	update rest.ValidateObjectUpdateFunc, _ bool, o *metav1.UpdateOptions,
) (runtime.Object, bool, error) {
	return s.store.Update(ctx, name, info, create, update, false, o)
}

func (s noticeStatus) GetResetFields() map[fieldpath.APIVersion]*fieldpath.Set {
	return s.store.GetResetFields()
}

func (s noticeStatus) ConvertToTable(ctx context.Context, obj, options runtime.Object) (*metav1.Table, error) {
	return s.store.ConvertToTable(ctx, obj, options)
}
