package broken

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
)

// now is the newest resourceVersion. Call with the lock.
func (s *Server) now() uint64 { return oldest + uint64(len(s.changes)) }

// text is a resourceVersion as clients see it.
func (s *Server) text(version uint64) string {
	if s.fault == VersionIsNoInteger {
		return "v" + strconv.FormatUint(version, 10)
	}
	return strconv.FormatUint(version, 10)
}

// parse reads what text wrote.
func (s *Server) parse(text string) (uint64, error) {
	if s.fault == VersionIsNoInteger {
		text = strings.TrimPrefix(text, "v")
	}
	version, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, apierrors.NewBadRequest(fmt.Sprintf("resourceVersion %q is no integer", text))
	}
	return version, nil
}

// commit stores an object, or removes it where it is nil, as one change. It gives what is stored. Call
// with the lock.
func (s *Server) commit(key string, o *unstructured.Unstructured) *unstructured.Unstructured {
	version := s.now() + 1
	old := s.objects[key]
	if o != nil {
		o = o.DeepCopy()
		o.SetResourceVersion(s.text(version))
		s.objects[key] = o
	} else {
		delete(s.objects, key)
	}
	s.changes = append(s.changes, change{version: version, key: key, old: old, new: o})
	close(s.changed)
	s.changed = make(chan struct{})
	return o
}

// stateAt is what was stored at a version. Call with the lock.
func (s *Server) stateAt(version uint64) map[string]*unstructured.Unstructured {
	if version >= s.now() {
		return maps.Clone(s.objects)
	}
	state := map[string]*unstructured.Unstructured{}
	for _, c := range s.changes {
		if c.version > version {
			break
		}
		if c.new == nil {
			delete(state, c.key)
		} else {
			state[c.key] = c.new
		}
	}
	return state
}

// filter is what a list or watch is confined to.
type filter struct {
	namespace string
	labels    labels.Selector
	fields    fields.Selector
	user      string
}

func newFilter(namespace, labelSelector, fieldSelector, user string) (filter, error) {
	f := filter{namespace: namespace, user: user}
	var err error
	if f.labels, err = labels.Parse(labelSelector); err != nil {
		return f, apierrors.NewBadRequest(err.Error())
	}
	if f.fields, err = fields.ParseSelector(fieldSelector); err != nil {
		return f, apierrors.NewBadRequest(err.Error())
	}
	for _, r := range f.fields.Requirements() {
		if r.Field != "metadata.name" && r.Field != "metadata.namespace" && r.Field != selectable {
			return f, apierrors.NewBadRequest(fmt.Sprintf("field label not supported: %s", r.Field))
		}
	}
	return f, nil
}

// matches says whether an object passes. A nil one does not.
func (f filter) matches(o *unstructured.Unstructured) bool {
	return o != nil && (f.namespace == "" || o.GetNamespace() == f.namespace) && visible(o, f.user) &&
		f.labels.Matches(labels.Set(o.GetLabels())) &&
		f.fields.Matches(fields.Set{"metadata.name": o.GetName(), "metadata.namespace": o.GetNamespace(), selectable: color(o)})
}

// selectable is the kind's selectable field.
const selectable = "spec.color"

func color(o *unstructured.Unstructured) string {
	text, _, _ := unstructured.NestedString(o.Object, "spec", "color") // "" where there is none
	return text
}

// visible says what a user may see.
func visible(o *unstructured.Unstructured, user string) bool {
	return user == adminToken || o.GetLabels()["public"] == "true"
}

// inOrder are the keys of a state.
func inOrder(state map[string]*unstructured.Unstructured) []string {
	return slices.Sorted(maps.Keys(state))
}

// shown is an object in a version.
func shown(o *unstructured.Unstructured, version string) *unstructured.Unstructured {
	o = o.DeepCopy()
	o.SetAPIVersion(group + "/" + version)
	o.SetKind(kind)
	if version == spoke {
		unstructured.RemoveNestedField(o.Object, "spec", "note")
	}
	return o
}

// hubOf is what a client of a version sent, in the hub; what the version does not know is kept of old.
func (s *Server) hubOf(o *unstructured.Unstructured, version string, old *unstructured.Unstructured) *unstructured.Unstructured {
	o = o.DeepCopy()
	o.SetAPIVersion(group + "/" + hub)
	if version == spoke && old != nil && s.fault != OtherVersionLosesData {
		if note, ok, _ := unstructured.NestedString(old.Object, "spec", "note"); ok {
			_ = unstructured.SetNestedField(o.Object, note, "spec", "note") // spec is an object, or the note is lost
		}
	}
	return o
}

// tableOf prints objects as rows.
func tableOf(objects []*unstructured.Unstructured, include, version string) map[string]any {
	rows := []any{}
	for _, o := range objects {
		row := map[string]any{"cells": []any{o.GetName(), color(o)}}
		switch include {
		case string(metav1.IncludeNone):
			row["object"] = nil
		case string(metav1.IncludeObject):
			row["object"] = shown(o, version).Object
		default:
			row["object"] = partial(o).Object
		}
		rows = append(rows, row)
	}
	column := func(name string) any {
		return map[string]any{"name": name, "type": "string", "format": "", "description": name + " of it.", "priority": int64(0)}
	}
	return map[string]any{
		"apiVersion": "meta.k8s.io/v1", "kind": "Table", "metadata": map[string]any{},
		"columnDefinitions": []any{column("Name"), column("Color")}, "rows": rows,
	}
}

// partial is an object's metadata.
func partial(o *unstructured.Unstructured) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": o.DeepCopy().Object["metadata"],
	}}
}
