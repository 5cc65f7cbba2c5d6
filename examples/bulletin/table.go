package bulletin

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metatable "k8s.io/apimachinery/pkg/api/meta/table"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	demov1 "github.com/annex-api/annex/examples/bulletin/v1"
)

// table turns notices into the rows that `kubectl get` prints.
type table struct {
	now func() time.Time
}

// columns are Name, Severity, Phase, Age, Message.
func columns() []metav1.TableColumnDefinition {
	return []metav1.TableColumnDefinition{
		{Name: "Name", Type: "string", Format: "name", Description: "The name of the notice."},
		{Name: "Severity", Type: "string", Description: "How much the notice matters."},
		{Name: "Phase", Type: "string", Description: "Whether the notice counts at this moment."},
		{Name: "Age", Type: "string", Description: "The time since the notice was created."},
		{Name: "Message", Type: "string", Description: "What the notice says."},
	}
}

// ConvertToTable takes a Notice or a NoticeList. The phase is that of this
// moment, which the stored one may lag behind.
func (t table) ConvertToTable(_ context.Context, obj, options runtime.Object) (*metav1.Table, error) {
	out := &metav1.Table{}
	if o, ok := options.(*metav1.TableOptions); !ok || !o.NoHeaders {
		out.ColumnDefinitions = columns()
	}
	if list, err := meta.ListAccessor(obj); err == nil {
		out.ResourceVersion = list.GetResourceVersion()
		out.Continue = list.GetContinue()
		out.RemainingItemCount = list.GetRemainingItemCount()
	} else if one, err := meta.CommonAccessor(obj); err == nil {
		out.ResourceVersion = one.GetResourceVersion()
	}
	var err error
	out.Rows, err = metatable.MetaToTableRow(obj, t.row)
	return out, err
}

func (t table) row(obj runtime.Object, _ metav1.Object, name, age string) ([]any, error) {
	n, ok := obj.(*demov1.Notice)
	if !ok {
		return nil, fmt.Errorf("print a notice: got %T", obj)
	}
	return []any{name, string(n.Spec.Severity), string(n.PhaseAt(t.now())), age, n.Spec.Message}, nil
}
