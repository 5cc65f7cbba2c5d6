package projection

import (
	"context"
	"fmt"
	"reflect"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// Write sends a plan, and waits until the ring has come to it. One that would write what is not
// shown is refused, and one that changes nothing is not sent. One for which the source is no longer what it was gives an error that
// IsOutdated knows.
func (s *Source) Write(ctx context.Context, p *Plan, dryRun []string) (runtime.Object, error) {
	if p.refused != nil {
		return nil, p.refused
	}
	if p.before != nil && reflect.DeepEqual(p.before.source.Object, p.source.Object) {
		return p.before.Object.DeepCopyObject(), nil
	}
	client := s.client(p.source.GetNamespace())
	var written *unstructured.Unstructured
	var err error
	if p.before == nil {
		written, err = client.Create(ctx, p.source, metav1.CreateOptions{DryRun: dryRun, FieldManager: s.manager()})
	} else {
		written, err = client.Update(ctx, p.source, metav1.UpdateOptions{DryRun: dryRun, FieldManager: s.manager()})
	}
	if err != nil {
		err = s.failure(p.name, err)
		if p.before != nil && apierrors.IsConflict(err) {
			return nil, outdated(err)
		}
		return nil, err
	}
	if len(dryRun) > 0 {
		return s.unseen(p, written)
	}
	waiting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if p.before != nil && ends(p.before.source, written) {
		if !s.seen.waitGone(waiting, written.GetUID()) {
			return nil, s.late(p.name)
		}
		return s.unseen(p, written)
	}
	version, v := s.seen.wait(waiting, momentOf(written))
	switch v {
	case notYet:
		return nil, s.late(p.name)
	case passed: // it is no longer what was written
		now, err := s.Read(ctx, p.source.GetNamespace(), p.name)
		if err != nil {
			return nil, err
		}
		return now.Object, nil
	}
	object, err := s.show(written)
	switch {
	case err != nil:
		return nil, apierrors.NewInternalError(err)
	case object == nil: // known says that it was shown
		return nil, apierrors.NewInternalError(fmt.Errorf("%s %q was written, and is not shown", s.Kind.Resource(), p.name))
	}
	return s.versioned(object, version), nil
}

// ends says whether a write took the last thing off that held an object which was being
// deleted: then the API server has deleted it.
func ends(before, written *unstructured.Unstructured) bool {
	grace := before.GetDeletionGracePeriodSeconds()
	return before.GetDeletionTimestamp() != nil && len(written.GetFinalizers()) == 0 && (grace == nil || *grace == 0)
}

// unseen is the answer to a write that the ring never shows.
func (s *Source) unseen(p *Plan, written *unstructured.Unstructured) (runtime.Object, error) {
	object, err := s.show(written)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	if object == nil {
		object = p.Shown.DeepCopyObject()
	}
	if p.before != nil {
		copyVersion(object, p.before.Object)
	}
	return object, nil
}

// manager is who manages the fields of the source that are written here.
func (s *Source) manager() string { return s.Kind.Resource().String() }

// Delete deletes a source. It is done only when the source is gone; otherwise the object is
// what it is until then.
func (s *Source) Delete(ctx context.Context, stored *Stored, o *metav1.DeleteOptions) (object runtime.Object, done bool, err error) {
	uid, version := stored.source.GetUID(), stored.source.GetResourceVersion()
	name, namespace := stored.source.GetName(), stored.source.GetNamespace()
	o = o.DeepCopy()
	o.Preconditions = &metav1.Preconditions{UID: &uid, ResourceVersion: &version}
	o.IgnoreStoreReadErrorWithClusterBreakingPotential = nil // the right to it would be this server's
	err = s.client(namespace).Delete(ctx, name, *o)
	if apierrors.IsConflict(err) && len(stored.source.GetFinalizers()) > 0 {
		// Where it cannot be read, the conflict stands.
		if now, _ := s.fetch(ctx, namespace, name); now != nil && momentOf(now) == momentOf(stored.source) {
			// k8s.io/apiserver refuses a right resourceVersion where the deletion takes the last
			// finalizer off (registry/generic/registry/store.go, Delete, errDeleteNow).
			o.Preconditions.ResourceVersion = nil
			err = s.client(namespace).Delete(ctx, name, *o)
		}
	}
	if err != nil {
		err = s.failure(name, err)
		if apierrors.IsConflict(err) {
			return nil, false, outdated(err)
		}
		return nil, false, err
	}
	if len(o.DryRun) > 0 {
		return stored.Object.DeepCopyObject(), len(stored.source.GetFinalizers()) == 0, nil
	}
	now, err := s.fetch(ctx, namespace, name)
	if err != nil {
		return nil, false, err
	}
	if now != nil && now.GetUID() == uid {
		left, err := s.Read(ctx, namespace, name)
		switch {
		case err == nil && uidOf(left) == uid:
			return left.Object, false, nil
		case err != nil && !apierrors.IsNotFound(err):
			return nil, false, err
		}
	}
	waiting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if !s.seen.waitGone(waiting, uid) {
		return nil, false, s.late(name)
	}
	return stored.Object.DeepCopyObject(), true, nil
}
