package registry

import (
	"fmt"
	"reflect"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// parts knows where metadata, status and the rest are in a Go type.
type parts struct {
	status []int   // nil where there is none
	rest   [][]int // neither metadata nor status
}

var (
	typeMeta   = reflect.TypeFor[metav1.TypeMeta]()
	objectMeta = reflect.TypeFor[metav1.ObjectMeta]()
)

func partsOf(obj runtime.Object) (*parts, error) {
	t := reflect.TypeOf(obj).Elem()
	p := &parts{}
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

// clearStatus empties the status of an object.
func (p *parts) clearStatus(obj runtime.Object) {
	if p.status != nil {
		reflect.ValueOf(obj).Elem().FieldByIndex(p.status).SetZero()
	}
}

// keepStatus gives an object the status of another.
func (p *parts) keepStatus(obj, old runtime.Object) {
	if p.status != nil {
		p.set(obj, old.DeepCopyObject(), p.status)
	}
}

// keepRest gives an object all of another but its metadata and its status.
func (p *parts) keepRest(obj, old runtime.Object) {
	old = old.DeepCopyObject()
	for _, index := range p.rest {
		p.set(obj, old, index)
	}
}

func (p *parts) set(obj, old runtime.Object, index []int) {
	reflect.ValueOf(obj).Elem().FieldByIndex(index).Set(reflect.ValueOf(old).Elem().FieldByIndex(index))
}

// sameRest says whether two objects differ in metadata and status at most. With
// withStatus the status counts among the rest.
func (p *parts) sameRest(a, b runtime.Object, withStatus bool) bool {
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
