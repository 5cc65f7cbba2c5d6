package broken

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func (s *Server) write(c call) {
	if s.fault == WritesNotReady {
		s.fail(c.w, apierrors.NewForbidden(groupResource, c.name, fmt.Errorf("not yet ready to handle request")))
		return
	}
	s.mu.Lock()
	stuck := s.fault == StuckAfterStop && s.stops > 0
	s.mu.Unlock()
	if stuck {
		ctx, cancel := context.WithTimeout(c.r.Context(), stuckFor)
		defer cancel()
		<-ctx.Done()
	}
	var (
		o    *unstructured.Unstructured
		code = http.StatusOK
		err  error
	)
	switch {
	case c.r.Method == http.MethodPost && c.name == "":
		o, err = s.create(c)
		code = http.StatusCreated
	case c.r.Method == http.MethodPut && c.name != "":
		o, err = s.update(c)
	case c.r.Method == http.MethodPatch && c.name != "":
		o, code, err = s.patch(c)
	case c.r.Method == http.MethodDelete:
		o, err = s.remove(c)
	default:
		err = apierrors.NewMethodNotSupported(groupResource, c.r.Method)
	}
	switch {
	case err != nil:
		s.fail(c.w, err)
	case o == nil:
		s.answer(c.w, c.r, code, map[string]any{"apiVersion": "v1", "kind": "Status", "status": "Success"})
	default:
		s.answerObject(c, code, o)
	}
}

// sent is the object that a client sent, in the version of the path, and the warnings of its fields.
func (s *Server) sent(c call) (*unstructured.Unstructured, error) {
	if media := c.r.Header.Get("Content-Type"); !strings.HasPrefix(media, "application/json") {
		return nil, &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: http.StatusUnsupportedMediaType, Reason: metav1.StatusReasonUnsupportedMediaType, Message: "only JSON is read"}}
	}
	o, err := read(c.r)
	if err != nil {
		return nil, err
	}
	if o.GetAPIVersion() != group+"/"+c.version || o.GetKind() != kind {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("%s of %s is not what is served here", o.GetKind(), o.GetAPIVersion()))
	}
	if o.GetNamespace() != "" && o.GetNamespace() != c.namespace {
		return nil, apierrors.NewBadRequest("the namespace of the object is not that of the request")
	}
	o.SetNamespace(c.namespace)
	return o, s.checkFields(c, o)
}

// checkFields does what fieldValidation asks for.
func (s *Server) checkFields(c call, o *unstructured.Unstructured) error {
	mode := c.query("fieldValidation")
	switch mode {
	case "", "Strict", "Warn", "Ignore":
	default:
		return apierrors.NewBadRequest(fmt.Sprintf("fieldValidation %q is none", mode))
	}
	for name := range o.Object {
		switch name {
		case "apiVersion", "kind", "metadata", "spec", "status":
			continue
		}
		if mode == "Strict" {
			return apierrors.NewBadRequest(fmt.Sprintf("strict decoding error: unknown field %q", name))
		}
		if mode != "Ignore" {
			c.w.Header().Add("Warning", fmt.Sprintf(`299 - "unknown field \"%s\""`, name))
		}
		delete(o.Object, name)
	}
	return nil
}

func validate(o *unstructured.Unstructured) error {
	if problems := validation.ValidateLabels(o.GetLabels(), field.NewPath("metadata", "labels")); len(problems) > 0 {
		return apierrors.NewInvalid(hubKind.GroupKind(), o.GetName(), problems)
	}
	return nil
}

func (c call) manager() string {
	if manager := c.query("fieldManager"); manager != "" {
		return manager
	}
	return "unknown"
}

func (s *Server) create(c call) (*unstructured.Unstructured, error) {
	o, err := s.sent(c)
	if err != nil {
		return nil, err
	}
	if o.GetName() == "" {
		o.SetName(o.GetGenerateName() + rand.String(5))
	}
	c.name = o.GetName()
	return s.insert(c, s.hubOf(o, c.version, nil), true)
}

// insert stores a new object.
func (s *Server) insert(c call, o *unstructured.Unstructured, track bool) (*unstructured.Unstructured, error) {
	if o.GetResourceVersion() != "" {
		return nil, apierrors.NewBadRequest("resourceVersion should not be set on objects to be created")
	}
	if err := validate(o); err != nil {
		return nil, err
	}
	delete(o.Object, "status")
	stamp(o)
	if track {
		o.SetManagedFields(nil)
		var err error
		if o, err = s.track(emptyObject(), o, c.manager()); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.admit(o); err != nil {
		return nil, err
	}
	if s.objects[c.key()] != nil {
		return nil, apierrors.NewAlreadyExists(groupResource, c.name)
	}
	if c.dryRun() {
		return o, nil
	}
	return s.commit(c.key(), o), nil
}

func (s *Server) update(c call) (*unstructured.Unstructured, error) {
	o, err := s.sent(c)
	if err != nil {
		return nil, err
	}
	if o.GetName() != c.name {
		return nil, apierrors.NewBadRequest("the name of the object is not that of the request")
	}
	return s.change(c, func(old *unstructured.Unstructured) (*unstructured.Unstructured, error) {
		return s.track(old, s.hubOf(o, c.version, old), c.manager())
	})
}

// change replaces an object by what next makes of it.
func (s *Server) change(c call, next func(old *unstructured.Unstructured) (*unstructured.Unstructured, error)) (*unstructured.Unstructured, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.objects[c.key()]
	if old == nil {
		return nil, apierrors.NewNotFound(groupResource, c.name)
	}
	o, err := next(old)
	if err != nil {
		return nil, err
	}
	if v := o.GetResourceVersion(); v != "" && v != old.GetResourceVersion() && s.fault != LostUpdate {
		return nil, apierrors.NewConflict(groupResource, c.name, fmt.Errorf("the object has been modified"))
	}
	if o.GetUID() != "" && o.GetUID() != old.GetUID() {
		return nil, apierrors.NewConflict(groupResource, c.name, fmt.Errorf("the uid is another"))
	}
	if o, err = s.prepare(c, o, old); err != nil {
		return nil, err
	}
	if unchanged(o, old) || c.dryRun() {
		o.SetResourceVersion(old.GetResourceVersion())
		return o, nil
	}
	if o.GetDeletionTimestamp() != nil && len(o.GetFinalizers()) == 0 {
		s.commit(c.key(), nil)
		s.emptyNamespace(c.namespace)
		return o, nil
	}
	return s.commit(c.key(), o), nil
}

// prepare keeps what a write must not change, and counts generations.
func (s *Server) prepare(c call, o, old *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	o = o.DeepCopy()
	if c.which == "status" {
		status, managed := o.Object["status"], o.GetManagedFields()
		o = old.DeepCopy()
		o.Object["status"] = status
		o.SetManagedFields(managed)
	} else if delete(o.Object, "status"); old.Object["status"] != nil {
		o.Object["status"] = old.DeepCopy().Object["status"]
	}
	o.SetUID(old.GetUID())
	o.SetCreationTimestamp(old.GetCreationTimestamp())
	o.SetDeletionTimestamp(old.GetDeletionTimestamp())
	o.SetGeneration(old.GetGeneration())
	o.SetResourceVersion(old.GetResourceVersion())
	specChanged := !equality.Semantic.DeepEqual(o.Object["spec"], old.Object["spec"])
	if specChanged ||
		s.fault == GenerationByLabels && !equality.Semantic.DeepEqual(o.GetLabels(), old.GetLabels()) ||
		s.fault == GenerationByStatus && !equality.Semantic.DeepEqual(o.Object["status"], old.Object["status"]) {
		o.SetGeneration(old.GetGeneration() + 1)
	}
	if specChanged && s.fault == ForeignMetadataWiped {
		o.SetLabels(nil)
		o.SetAnnotations(nil)
		o.SetFinalizers(nil)
		o.SetOwnerReferences(nil)
	}
	return o, validate(o)
}

// unchanged says whether a write changed nothing but the times in managed fields.
func unchanged(o, old *unstructured.Unstructured) bool {
	plain := func(o *unstructured.Unstructured) *unstructured.Unstructured {
		o = o.DeepCopy()
		entries := o.GetManagedFields()
		for i := range entries {
			entries[i].Time = nil
		}
		o.SetManagedFields(entries)
		return o
	}
	return equality.Semantic.DeepEqual(plain(o).Object, plain(old).Object)
}

func (s *Server) patch(c call) (*unstructured.Unstructured, int, error) {
	raw, err := io.ReadAll(c.r.Body)
	if err != nil {
		return nil, 0, apierrors.NewBadRequest(err.Error())
	}
	media, _, _ := strings.Cut(c.r.Header.Get("Content-Type"), ";")
	var apply func([]byte) ([]byte, error)
	switch media {
	case "application/apply-patch+yaml":
		return s.apply(c, raw)
	case "application/merge-patch+json":
		apply = func(document []byte) ([]byte, error) { return jsonpatch.MergePatch(document, raw) }
	case "application/json-patch+json":
		operations, err := jsonpatch.DecodePatch(raw)
		if err != nil {
			return nil, 0, apierrors.NewBadRequest(err.Error())
		}
		apply = operations.Apply
	default:
		return nil, 0, &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: http.StatusUnsupportedMediaType, Reason: metav1.StatusReasonUnsupportedMediaType, Message: "no such patch"}}
	}
	o, err := s.change(c, func(old *unstructured.Unstructured) (*unstructured.Unstructured, error) {
		document, err := json.Marshal(shown(old, c.version).Object)
		if err != nil {
			return nil, err
		}
		if document, err = apply(document); err != nil {
			return nil, apierrors.NewGenericServerResponse(http.StatusUnprocessableEntity, "patch", groupResource, c.name, err.Error(), 0, true)
		}
		o := &unstructured.Unstructured{}
		if err := o.UnmarshalJSON(document); err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
		return s.track(old, s.hubOf(o, c.version, old), c.manager())
	})
	return o, http.StatusOK, err
}

// remove deletes an object, or all that match where there is no name.
func (s *Server) remove(c call) (*unstructured.Unstructured, error) {
	body, err := read(c.r)
	if err != nil {
		return nil, err
	}
	f, err := newFilter(c.namespace, c.query("labelSelector"), c.query("fieldSelector"), c.user)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.emptyNamespace(c.namespace)
	if c.name == "" {
		for key, o := range s.objects {
			if f.matches(o) {
				s.removeOne(c, key, o)
			}
		}
		return nil, nil
	}
	o := s.objects[c.key()]
	if o == nil {
		return nil, apierrors.NewNotFound(groupResource, c.name)
	}
	uid, _, _ := unstructured.NestedString(body.Object, "preconditions", "uid")                 // none is ""
	version, _, _ := unstructured.NestedString(body.Object, "preconditions", "resourceVersion") // none is ""
	if uid != "" && uid != string(o.GetUID()) || version != "" && version != o.GetResourceVersion() {
		return nil, apierrors.NewConflict(groupResource, c.name, fmt.Errorf("a precondition does not hold"))
	}
	return s.removeOne(c, c.key(), o), nil
}

// removeOne deletes an object, or marks it where finalizers hold it. Call with the lock.
func (s *Server) removeOne(c call, key string, o *unstructured.Unstructured) *unstructured.Unstructured {
	o = o.DeepCopy()
	switch c.query("propagationPolicy") {
	case "Foreground":
		o.SetFinalizers(append(o.GetFinalizers(), metav1.FinalizerDeleteDependents))
	case "Orphan":
		o.SetFinalizers(append(o.GetFinalizers(), metav1.FinalizerOrphanDependents))
	}
	if len(o.GetFinalizers()) == 0 || s.fault == FinalizerIgnored {
		if !c.dryRun() {
			s.commit(key, nil)
		}
		return nil
	}
	if o.GetDeletionTimestamp() == nil {
		now := metav1.NewTime(time.Now().Truncate(time.Second))
		o.SetDeletionTimestamp(&now)
	}
	if c.dryRun() || equality.Semantic.DeepEqual(o.Object, s.objects[key].Object) {
		return o
	}
	return s.commit(key, o)
}
