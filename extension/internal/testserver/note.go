package main

import (
	"fmt"
	"reflect"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/annex-api/annex/extension/internal/kind"
	"github.com/annex-api/annex/extension/internal/openapi"
	structural "github.com/annex-api/annex/extension/internal/schema"
)

// Note is the kind that is served.
type Note struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Text              string `json:"text,omitempty"`
}

// DeepCopyObject copies it.
func (n *Note) DeepCopyObject() runtime.Object {
	out := *n
	n.ObjectMeta.DeepCopyInto(&out.ObjectMeta)
	return &out
}

// NoteList is a list of them.
type NoteList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Note `json:"items"`
}

// DeepCopyObject copies it.
func (l *NoteList) DeepCopyObject() runtime.Object {
	out := *l
	l.ListMeta.DeepCopyInto(&out.ListMeta)
	out.Items = make([]Note, len(l.Items))
	for i := range l.Items {
		out.Items[i] = *l.Items[i].DeepCopyObject().(*Note)
	}
	return &out
}

// notes is the kind in a group.
func notes(gv schema.GroupVersion) (*kind.Kind, *openapi.Definitions, error) {
	k := &kind.Kind{
		Hub:        gv,
		Names:      kind.Names{Kind: "Note", List: "NoteList", Plural: "notes", Singular: "note"},
		Namespaced: true,
		New:        func() runtime.Object { return &Note{} }, NewList: func() runtime.Object { return &NoteList{} },
		StorageVersion: gv.Version,
	}
	s, err := structural.FromType(reflect.TypeFor[Note]())
	if err != nil {
		return nil, nil, fmt.Errorf("the schema of notes: %w", err)
	}
	definitions, err := openapi.New([]openapi.Kind{{
		GroupVersion: gv, Kind: k.Names.Kind, ListKind: k.Names.List, Plural: k.Names.Plural, Schema: s,
		Type: reflect.TypeFor[Note](), List: reflect.TypeFor[NoteList](),
	}})
	return k, definitions, err
}
