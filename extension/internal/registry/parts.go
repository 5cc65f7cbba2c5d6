package registry

import (
	"fmt"
	"reflect"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/annex-api/annex/extension/internal/kind"
)

// parts knows where metadata, status and the rest are in the objects of a kind.
type parts interface {
	// hasStatus says whether there is a status.
	hasStatus() bool
	// clearStatus empties the status of an object.
	clearStatus(obj runtime.Object)
	// keepStatus gives an object the status of another.
	keepStatus(obj, old runtime.Object)
	// keepRest gives an object all of another but its metadata and its status.
	keepRest(obj, old runtime.Object)
	// sameRest says whether two objects differ in metadata and status at most. With
	// withStatus the status counts among the rest.
	sameRest(a, b runtime.Object, withStatus bool) bool
}

// partsOf finds the parts of a kind's objects.
func partsOf(k *kind.Kind) (parts, error) {
	if k.Untyped != nil {
		return contentParts{k.Untyped.Members[k.Hub.Version]}, nil
	}
	return fieldsOf(k.New())
}

// fieldParts are the parts of a Go type.
type fieldParts struct {
	status []int // nil where there is none
	rest   [][]int
}

var (
	typeMeta   = reflect.TypeFor[metav1.TypeMeta]()
	objectMeta = reflect.TypeFor[metav1.ObjectMeta]()
)

func fieldsOf(obj runtime.Object) (*fieldParts, error) {
	t := reflect.TypeOf(obj).Elem()
	p := &fieldParts{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && (f.Type == typeMeta || f.Type == objectMeta):
		case name == "status":
			p.status = f.Index
		case f.IsExported():
			p.rest = append(p.rest, f.Index)
		default:
			return nil, fmt.Errorf("%v has a field %s that is not exported: it would not be stored", t, f.Name)
		}
	}
	return p, nil
}

func (p *fieldParts) hasStatus() bool { return p.status != nil }

func (p *fieldParts) clearStatus(obj runtime.Object) {
	if p.status != nil {
		reflect.ValueOf(obj).Elem().FieldByIndex(p.status).SetZero()
	}
}

func (p *fieldParts) keepStatus(obj, old runtime.Object) {
	if p.status != nil {
		p.set(obj, old.DeepCopyObject(), p.status)
	}
}

func (p *fieldParts) keepRest(obj, old runtime.Object) {
	old = old.DeepCopyObject()
	for _, index := range p.rest {
		p.set(obj, old, index)
	}
}

func (p *fieldParts) set(obj, old runtime.Object, index []int) {
	reflect.ValueOf(obj).Elem().FieldByIndex(index).Set(reflect.ValueOf(old).Elem().FieldByIndex(index))
}

func (p *fieldParts) sameRest(a, b runtime.Object, withStatus bool) bool {
	x, y := reflect.ValueOf(a).Elem(), reflect.ValueOf(b).Elem()
	indexes := p.rest
	if withStatus && p.status != nil {
		indexes = append(indexes[:len(indexes):len(indexes)], p.status)
	}
	for _, index := range indexes {
		if !equality.Semantic.DeepEqual(x.FieldByIndex(index).Interface(), y.FieldByIndex(index).Interface()) {
			return false
		}
	}
	return true
}
