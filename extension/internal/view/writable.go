package view

import (
	"context"
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/endpoints/handlers/fieldmanager"
	"k8s.io/apiserver/pkg/registry/rest"

	"github.com/annex-api/annex/extension/internal/projection"
	"github.com/annex-api/annex/extension/internal/registry"
)

const (
	// tries is how often a write is planned whose source changes meanwhile.
	tries = 5
	// names is how often a name is generated that is taken.
	names = 8
)

// The verbs that Allowed is asked for, beside get, list and watch. A patch and an apply are an
// update, or a creation.
const (
	create = "create"
	update = "update"
	remove = "delete"
)

// Writable is a Resource whose objects can be written, at the source that they come from.
// It has the writers that Resource has not, so that discovery says so.
type Writable struct {
	*Resource
	strategy registry.Strategy
	source   *projection.Source
}

var (
	_ rest.Creater           = &Writable{}
	_ rest.Updater           = &Writable{}
	_ rest.GracefulDeleter   = &Writable{}
	_ rest.CollectionDeleter = &Writable{}
)

// NewWritable serves a Resource for reading and writing.
func NewWritable(r *Resource, strategy registry.Strategy, source *projection.Source) *Writable {
	return &Writable{Resource: r, strategy: strategy, source: source}
}

// Create implements rest.Creater.
func (w *Writable) Create(ctx context.Context, object runtime.Object, validate rest.ValidateObjectFunc, o *metav1.CreateOptions) (_ runtime.Object, err error) {
	defer registry.Recovered(ctx, w.source.Kind, create, &err)
	m, err := meta.Accessor(object)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	if m.GetName() != "" || m.GetGenerateName() == "" {
		return w.create(ctx, object, validate, o.DryRun)
	}
	for attempt := 1; ; attempt++ {
		own := object.DeepCopyObject()
		created, err := w.create(ctx, own, validate, o.DryRun)
		if attempt == names || !apierrors.IsAlreadyExists(err) {
			return created, rest.CheckGeneratedNameError(ctx, w.strategy, err, own)
		}
	}
}

func (w *Writable) create(ctx context.Context, object runtime.Object, validate rest.ValidateObjectFunc, dryRun []string) (runtime.Object, error) {
	if err := w.available(ctx); err != nil {
		return nil, err
	}
	m, err := meta.Accessor(object)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	if m.GetResourceVersion() != "" {
		return nil, apierrors.NewBadRequest("resourceVersion should not be set on objects to be created")
	}
	rest.FillObjectMetaSystemFields(m)
	if m.GetName() == "" && m.GetGenerateName() != "" {
		m.SetName(w.strategy.GenerateName(m.GetGenerateName()))
	}
	if err := rest.BeforeCreate(w.strategy, ctx, object); err != nil {
		return nil, err
	}
	if validate != nil {
		if err := validate(ctx, object.DeepCopyObject()); err != nil {
			return nil, err
		}
	}
	plan, err := w.source.Plan(ctx, nil, object)
	if err != nil {
		return nil, err
	}
	if err := w.mayBecome(ctx, create, m.GetName(), plan); err != nil {
		return nil, err
	}
	return w.source.Write(ctx, plan, dryRun)
}

// Update implements rest.Updater, and with it patches and apply. A write that meets another one is
// planned again: what the client named by a resourceVersion must then be what there is.
func (w *Writable) Update(ctx context.Context, name string, info rest.UpdatedObjectInfo, createValidation rest.ValidateObjectFunc,
	updateValidation rest.ValidateObjectUpdateFunc, force bool, o *metav1.UpdateOptions,
) (_ runtime.Object, created bool, err error) {
	defer registry.Recovered(ctx, w.source.Kind, update, &err)
	for attempt := 1; ; attempt++ {
		stored, err := w.stored(ctx, name)
		switch {
		case apierrors.IsNotFound(err) && (force || w.strategy.AllowCreateOnUpdate(ctx)):
			written, err := w.createBy(ctx, name, info, createValidation, o)
			return written, err == nil, err
		case err != nil:
			return nil, false, err
		}
		written, err := w.update(ctx, name, stored, info, updateValidation, o)
		if attempt == tries || !projection.IsOutdated(err) {
			return written, false, err
		}
	}
}

// createBy makes an object by an update of what is not there.
func (w *Writable) createBy(ctx context.Context, name string, info rest.UpdatedObjectInfo, validate rest.ValidateObjectFunc, o *metav1.UpdateOptions) (runtime.Object, error) {
	if p := info.Preconditions(); p != nil && p.UID != nil {
		return nil, apierrors.NewConflict(w.cache.Resource(), name, fmt.Errorf("there is none, and one with the uid %s was meant", *p.UID))
	}
	object, err := info.UpdatedObject(ctx, w.New())
	if err != nil {
		return nil, err
	}
	m, err := meta.Accessor(object)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	if m.GetResourceVersion() != "" {
		return nil, apierrors.NewConflict(w.cache.Resource(), name, errors.New("there is none, and one with a resourceVersion was meant"))
	}
	rest.WipeObjectMetaSystemFields(m)
	return w.create(ctx, object, validate, o.DryRun)
}

func (w *Writable) update(ctx context.Context, name string, stored *projection.Stored, info rest.UpdatedObjectInfo, validate rest.ValidateObjectUpdateFunc, o *metav1.UpdateOptions) (runtime.Object, error) {
	if err := w.may(ctx, update, name, stored.Object); err != nil {
		return nil, err
	}
	old := stored.Object.DeepCopyObject()
	object, err := info.UpdatedObject(ctx, stored.Object.DeepCopyObject())
	if err != nil {
		return nil, err
	}
	object.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{}) // one that was decoded has it, and that is no difference
	if err := w.meant(name, object, old, info.Preconditions()); err != nil {
		return nil, err
	}
	if err := rest.BeforeUpdate(w.strategy, ctx, object, old); err != nil {
		return nil, err
	}
	if object, err = fieldmanager.IgnoreManagedFieldsTimestampsTransformer(ctx, object, old); err != nil {
		return nil, err
	}
	if validate != nil {
		if err := validate(ctx, object.DeepCopyObject(), old.DeepCopyObject()); err != nil {
			return nil, err
		}
	}
	plan, err := w.source.Plan(ctx, stored, object)
	if err != nil {
		return nil, err
	}
	if err := w.mayBecome(ctx, update, name, plan); err != nil {
		return nil, err
	}
	return w.source.Write(ctx, plan, o.DryRun)
}

// meant checks that an object is the one that the client has seen, here or at another replica.
// Without a resourceVersion it is whatever there is.
func (w *Writable) meant(name string, object, old runtime.Object, p *metav1.Preconditions) error {
	m, err := meta.Accessor(object)
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	was, err := meta.Accessor(old)
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	seen := []string{m.GetResourceVersion()}
	if p != nil {
		if p.UID != nil && *p.UID != was.GetUID() {
			return apierrors.NewConflict(w.cache.Resource(), name, fmt.Errorf("its uid is %s, and the one with %s was meant", was.GetUID(), *p.UID))
		}
		if p.ResourceVersion != nil {
			seen = append(seen, *p.ResourceVersion)
		}
	}
	for _, version := range seen {
		if version != "" && !w.cache.Ring.Showed(version, old) {
			return apierrors.NewConflict(w.cache.Resource(), name, errors.New("the object has been modified; please apply your changes to the latest version and try again"))
		}
	}
	m.SetResourceVersion(was.GetResourceVersion())
	return nil
}

// Delete implements rest.GracefulDeleter. It is done when the source is gone.
func (w *Writable) Delete(ctx context.Context, name string, validate rest.ValidateObjectFunc, o *metav1.DeleteOptions) (_ runtime.Object, done bool, err error) {
	defer registry.Recovered(ctx, w.source.Kind, remove, &err)
	if o == nil {
		o = &metav1.DeleteOptions{}
	}
	for attempt := 1; ; attempt++ {
		object, done, err := w.delete(ctx, name, validate, o)
		if attempt == tries || !projection.IsOutdated(err) {
			return object, done, err
		}
	}
}

func (w *Writable) delete(ctx context.Context, name string, validate rest.ValidateObjectFunc, o *metav1.DeleteOptions) (runtime.Object, bool, error) {
	stored, err := w.stored(ctx, name)
	if err != nil {
		return nil, false, err
	}
	if err := w.may(ctx, remove, name, stored.Object); err != nil {
		return nil, false, err
	}
	if o, err = w.preconditions(stored.Object, o); err != nil {
		return nil, false, err
	}
	if _, _, err := rest.BeforeDelete(w.strategy, ctx, stored.Object.DeepCopyObject(), o); err != nil {
		return nil, false, err
	}
	if validate != nil {
		if err := validate(ctx, stored.Object.DeepCopyObject()); err != nil {
			return nil, false, err
		}
	}
	object, done, err := w.source.Delete(ctx, stored, o)
	if err != nil || !done {
		return object, false, err
	}
	m, err := meta.Accessor(object)
	if err != nil {
		return nil, false, apierrors.NewInternalError(err)
	}
	return &metav1.Status{Status: metav1.StatusSuccess, Details: &metav1.StatusDetails{
		Name: name, Group: w.cache.Resource().Group, Kind: w.cache.Resource().Resource, UID: m.GetUID(),
	}}, true, nil
}

// preconditions names the present resourceVersion where the one that a client named showed the
// object as it is.
func (w *Writable) preconditions(object runtime.Object, o *metav1.DeleteOptions) (*metav1.DeleteOptions, error) {
	if o.Preconditions == nil || o.Preconditions.ResourceVersion == nil || !w.cache.Ring.Showed(*o.Preconditions.ResourceVersion, object) {
		return o, nil
	}
	m, err := meta.Accessor(object)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	o = o.DeepCopy()
	o.Preconditions.ResourceVersion = new(m.GetResourceVersion())
	return o, nil
}

// DeleteCollection deletes what the caller sees of a list.
func (w *Writable) DeleteCollection(ctx context.Context, validate rest.ValidateObjectFunc, o *metav1.DeleteOptions, l *metainternalversion.ListOptions) (_ runtime.Object, err error) {
	defer registry.Recovered(ctx, w.source.Kind, remove, &err)
	listed, err := w.List(ctx, l)
	if err != nil {
		return nil, err
	}
	return registry.DeleteEach(ctx, listed, func(ctx context.Context, name string) error {
		_, _, err := w.Delete(ctx, name, validate, o.DeepCopy())
		return err
	})
}

// stored reads an object at its source. What the caller may not get is not there.
func (w *Writable) stored(ctx context.Context, name string) (*projection.Stored, error) {
	if err := w.available(ctx); err != nil {
		return nil, err
	}
	stored, err := w.source.Read(ctx, w.namespace(ctx), name)
	if err != nil {
		return nil, err
	}
	switch visible, err := w.visible(ctx, "get", stored.Object); {
	case err != nil:
		return nil, err
	case !visible:
		return nil, apierrors.NewNotFound(w.cache.Resource(), name)
	}
	return stored, nil
}

// mayBecome refuses what the caller may not make of an object: as it would be shown, and with all
// that the caller sent.
func (w *Writable) mayBecome(ctx context.Context, verb, name string, plan *projection.Plan) error {
	if err := w.may(ctx, verb, name, plan.Shown); err != nil {
		return err
	}
	if equality.Semantic.DeepEqual(plan.Shown, plan.Asked) {
		return nil
	}
	return w.may(ctx, verb, name, plan.Asked)
}
