// Package table prints objects as rows.
package table

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metatable "k8s.io/apimachinery/pkg/api/meta/table"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/klog/v2"

	"github.com/annex-api/annex/extension/internal/kind"
)

// Printer makes tables of a kind's objects: Name, the columns, Age.
type Printer struct {
	columns []kind.Column
	header  []metav1.TableColumnDefinition
}

// New makes a printer. A column of type date shows how long ago its time was.
func New(columns []kind.Column) *Printer {
	p := &Printer{columns: columns}
	p.header = append(p.header, metav1.TableColumnDefinition{Name: "Name", Type: "string", Format: "name", Description: "Name is unique within a namespace."})
	for _, c := range columns {
		p.header = append(p.header, c.TableColumnDefinition)
	}
	p.header = append(p.header, metav1.TableColumnDefinition{Name: "Age", Type: "date", Description: "Age is the time since the object was created."})
	return p
}

// ConvertToTable takes an object or a list of them. A panic of a column is an error, and is
// logged with where it came from.
func (p *Printer) ConvertToTable(ctx context.Context, obj, options runtime.Object) (*metav1.Table, error) {
	out := &metav1.Table{}
	if o, ok := options.(*metav1.TableOptions); !ok || !o.NoHeaders {
		out.ColumnDefinitions = p.header
	}
	if list, err := meta.ListAccessor(obj); err == nil {
		out.ResourceVersion = list.GetResourceVersion()
		out.Continue = list.GetContinue()
		out.RemainingItemCount = list.GetRemainingItemCount()
	} else if one, err := meta.CommonAccessor(obj); err == nil {
		out.ResourceVersion = one.GetResourceVersion()
	}
	var err error
	out.Rows, err = metatable.MetaToTableRow(obj, func(obj runtime.Object, _ metav1.Object, name, age string) ([]any, error) {
		return p.row(ctx, obj, name, age)
	})
	return out, err
}

func (p *Printer) row(ctx context.Context, obj runtime.Object, name, age string) (cells []any, err error) {
	column := ""
	defer func() {
		if r := recover(); r != nil {
			klog.FromContext(ctx).Error(fmt.Errorf("panic: %v", r), "A hook panicked", "column", column, "object", name, "stack", string(debug.Stack()))
			cells, err = nil, apierrors.NewInternalError(fmt.Errorf("column %s of %s panicked", column, name))
		}
	}()
	cells = append(cells, name)
	for _, c := range p.columns {
		column = c.Name
		cells = append(cells, cell(c.Value(obj)))
	}
	return append(cells, age), nil
}

// cell makes of a value what JSON and kubectl can show.
func cell(value any) any {
	switch v := value.(type) {
	case nil:
		return nil
	case metav1.Time:
		return ago(v)
	case *metav1.Time:
		if v == nil {
			return nil
		}
		return ago(*v)
	case time.Time:
		return ago(metav1.NewTime(v))
	case string, bool, int64, float64:
		return v
	case int:
		return int64(v)
	case int32:
		return int64(v)
	case float32:
		return float64(v)
	case fmt.Stringer:
		return v.String()
	}
	return fmt.Sprint(value)
}

func ago(t metav1.Time) string {
	if t.IsZero() {
		return "<unknown>"
	}
	return duration.HumanDuration(time.Since(t.Time))
}
