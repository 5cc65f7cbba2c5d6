package broken

import (
	"fmt"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"sigs.k8s.io/yaml"
)

// newFields makes what merges and tracks the fields of managers. All of it is in the hub.
func newFields() (*managedfields.FieldManager, error) {
	var o untyped
	return managedfields.NewDefaultCRDFieldManager(managedfields.NewDeducedTypeConverter(), o, o, o, hubKind, hubKind.GroupVersion(), "", nil)
}

// untyped does for objects without Go types what a scheme does for those that have them.
type untyped struct{}

func (untyped) Convert(in, out, _ any) error {
	return fmt.Errorf("convert %T to %T: not of this kind", in, out)
}

func (untyped) ConvertToVersion(in runtime.Object, _ runtime.GroupVersioner) (runtime.Object, error) {
	return in, nil // all is in the hub
}

func (untyped) ConvertFieldLabel(_ schema.GroupVersionKind, label, value string) (string, string, error) {
	return label, value, nil
}

func (untyped) Default(runtime.Object) {}

func (untyped) New(schema.GroupVersionKind) (runtime.Object, error) { return emptyObject(), nil }

func emptyObject() *unstructured.Unstructured {
	o := &unstructured.Unstructured{Object: map[string]any{}}
	o.SetGroupVersionKind(hubKind)
	return o
}

// track sets the managed fields of an object after a write that is no apply.
func (s *Server) track(old, o *unstructured.Unstructured, manager string) (*unstructured.Unstructured, error) {
	tracked, err := s.fields.Update(old, o, manager)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	return tracked.(*unstructured.Unstructured), nil
}

// apply merges a configuration, and makes the object where there is none.
func (s *Server) apply(c call, raw []byte) (*unstructured.Unstructured, int, error) {
	if s.fault == ApplyInternalVersion {
		return nil, 0, apierrors.NewInternalError(fmt.Errorf("no kind %q is registered for the internal version of group %q", kind, group))
	}
	config := &unstructured.Unstructured{Object: map[string]any{}}
	if err := yaml.Unmarshal(raw, &config.Object); err != nil {
		return nil, 0, apierrors.NewBadRequest(err.Error())
	}
	config.SetAPIVersion(hubKind.GroupVersion().String())
	merge := func(old *unstructured.Unstructured) (*unstructured.Unstructured, error) {
		merged, err := s.fields.Apply(old.DeepCopy(), config, c.manager(), c.query("force") == "true")
		if err != nil {
			return nil, err
		}
		return merged.(*unstructured.Unstructured), nil
	}
	s.mu.Lock()
	exists := s.objects[c.key()] != nil
	s.mu.Unlock()
	if exists {
		o, err := s.change(c, merge)
		return o, http.StatusOK, err
	}
	o, err := merge(emptyObject())
	if err != nil {
		return nil, 0, err
	}
	o.SetName(c.name)
	o.SetNamespace(c.namespace)
	o, err = s.insert(c, o, false)
	return o, http.StatusCreated, err
}
