package conformance

import (
	"context"
	"encoding/json"
	"net/http"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

const tableMedia = "application/json;as=Table;v=v1;g=meta.k8s.io"

func tableChecks() []Check {
	const source = concepts + "#receiving-resources-as-tables"
	return []Check{
		{
			ID:      "table/list",
			Promise: "A list can be had as a Table: a cell for each column, the list's resourceVersion, and the object in each row as includeObject says.",
			Source:  source,
			Faults:  []int{3},
			Needs:   []Need{Verb("list")},
			Run:     checkTableList,
		},
		{
			ID:      "table/watch",
			Promise: "A watch can be had as Tables: one row an event, the columns in the first.",
			Source:  source,
			Needs:   []Need{Writable, Watchable},
			Run:     checkTableWatch,
		},
	}
}

// tableOf checks a table's form, or ends the check.
func (t *T) tableOf(e *Exchange, raw []byte) metav1.Table {
	var table metav1.Table
	if err := json.Unmarshal(raw, &table); err != nil {
		t.fatalf(e, "the answer is no Table: %v", err)
	}
	if table.Kind != "Table" || table.APIVersion != "meta.k8s.io/v1" {
		t.fatalf(e, "the answer is %s of %s, want Table of meta.k8s.io/v1", table.Kind, table.APIVersion)
	}
	return table
}

func (t *T) checkRows(e *Exchange, table metav1.Table, columns int) {
	for i, row := range table.Rows {
		if len(row.Cells) != columns {
			t.failf(e, "row %d has %d cells for %d columns", i, len(row.Cells), columns)
		}
	}
}

func checkTableList(ctx context.Context, t *T) {
	o := t.existing(ctx)
	list := request{method: http.MethodGet, path: t.subject.path(o.GetNamespace(), "")}
	for include, wanted := range map[string]string{"": "PartialObjectMetadata", "Metadata": "PartialObjectMetadata", "Object": t.subject.kind, "None": ""} {
		r := list
		if include != "" {
			r.query = query("includeObject", include)
		}
		a := t.want(t.do(ctx, r.with("Accept", tableMedia)), http.StatusOK)
		table := t.tableOf(a.Exchange, a.raw)
		if len(table.ColumnDefinitions) == 0 {
			t.fatalf(a.Exchange, "the table has no columns")
		}
		if table.ResourceVersion == "" {
			t.failf(a.Exchange, "the table has no resourceVersion")
		}
		if len(table.Rows) == 0 {
			t.fatalf(a.Exchange, "the table has no row though there is an object")
		}
		t.checkRows(a.Exchange, table, len(table.ColumnDefinitions))
		for _, row := range table.Rows {
			if kind := kindOf(row.Object.Raw); kind != wanted {
				t.fatalf(a.Exchange, "includeObject=%s gave rows with an object of kind %q, want %q", include, kind, wanted)
			}
		}
	}
}

// kindOf is the kind of an object in a row; "" where there is none.
func kindOf(raw []byte) string {
	o, err := parse(raw)
	if err != nil {
		return ""
	}
	return o.GetKind()
}

func checkTableWatch(ctx context.Context, t *T) {
	version := t.now(ctx)
	w := t.granted(t.watchPath(ctx, t.admin, t.subject.path(t.subject.namespace, ""), tableMedia, "resourceVersion", version))
	t.create(ctx)
	t.create(ctx)
	columns := 0
	rows := 0
	_, ok := w.until(ctx, soon, func(e event) bool {
		if e.kind != added {
			return false
		}
		table := t.tableOf(w.exchange(), body(e.object.Object))
		if columns == 0 {
			if columns = len(table.ColumnDefinitions); columns == 0 {
				t.fatalf(w.exchange(), "the first event has no columns")
			}
		}
		if len(table.Rows) != 1 {
			t.fatalf(w.exchange(), "an event has %d rows, want 1", len(table.Rows))
		}
		t.checkRows(w.exchange(), table, columns)
		if o, err := parse(table.Rows[0].Object.Raw); err == nil && t.mine(&unstructured.Unstructured{Object: o.Object}) {
			rows++
		}
		return rows == 2
	})
	if !ok {
		t.failf(w.exchange(), "%d of 2 created objects came as rows within %v", rows, soon)
	}
}
