package bulletin

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	demov1 "github.com/annex-api/annex/examples/bulletin/v1"
)

func TestNoticeLifeCycle(t *testing.T) {
	client := board(t, start(t, open).config)
	ctx := t.Context()

	dry, err := client.Create(ctx, notice("draft", map[string]any{"message": "m"}), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if err != nil || dry.GetUID() == "" {
		t.Fatalf("dry run: %v, uid %q", err, dry.GetUID())
	}
	if _, err := client.Get(ctx, "draft", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Fatalf("a dry run left something behind: %v", err)
	}

	made := mustCreate(t, client, notice("water", map[string]any{"message": "The water is off from 9 to 10."}))
	if severity, phase := valueOf(t, made, "spec", "severity"), valueOf(t, made, "status", "phase"); severity != "info" || phase != "Active" {
		t.Errorf("defaults: severity %q, phase %q, want info, Active", severity, phase)
	}
	mustCreate(t, client, notice("fire", map[string]any{"message": "Leave the house.", "severity": "critical"}))
	mustCreate(t, client, notice("cake", map[string]any{"message": "There is cake.", "expires": "2020-01-01T00:00:00Z"}))

	got, err := client.Get(ctx, "cake", metav1.GetOptions{})
	if err != nil || valueOf(t, got, "status", "phase") != "Expired" {
		t.Errorf("get cake: %v, phase %q, want Expired", err, valueOf(t, got, "status", "phase"))
	}
	names := func(o metav1.ListOptions) (list []string, next string) {
		t.Helper()
		l, err := client.List(ctx, o)
		if err != nil {
			t.Fatalf("list %+v: %v", o, err)
		}
		for _, n := range l.Items {
			list = append(list, n.GetName())
		}
		return list, l.GetContinue()
	}
	first, next := names(metav1.ListOptions{Limit: 2})
	rest, end := names(metav1.ListOptions{Limit: 2, Continue: next})
	if all := append(first, rest...); len(first) != 2 || end != "" || !slices.Equal(all, []string{"cake", "fire", "water"}) {
		t.Errorf("pages: %v and %v, continued by %q", first, rest, end)
	}
	if critical, _ := names(metav1.ListOptions{FieldSelector: "spec.severity=critical"}); !slices.Equal(critical, []string{"fire"}) {
		t.Errorf("critical: %v, want fire", critical)
	}

	// A later end starts the life anew, and moves the generation.
	patch := []byte(`{"spec":{"expires":"2999-01-01T00:00:00Z"}}`)
	got, err = client.Patch(ctx, "cake", types.MergePatchType, patch, metav1.PatchOptions{})
	if err != nil || valueOf(t, got, "status", "phase") != "Active" || got.GetGeneration() != 2 {
		t.Errorf("extend cake: %v, phase %q, generation %d, want Active, 2", err, valueOf(t, got, "status", "phase"), got.GetGeneration())
	}

	patch = []byte(`{"metadata":{"finalizers":["demo.annex.dev/hold"]}}`)
	if _, err := client.Patch(ctx, "cake", types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := client.Delete(ctx, "cake", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if got, err := client.Get(ctx, "cake", metav1.GetOptions{}); err != nil || got.GetDeletionTimestamp() == nil {
		t.Fatalf("a finalizer did not hold the deletion: %v", err)
	}
	patch = []byte(`{"metadata":{"finalizers":null}}`)
	if _, err := client.Patch(ctx, "cake", types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Get(ctx, "cake", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("without its finalizer the notice stayed: %v", err)
	}
}

func TestInvalidNotices(t *testing.T) {
	client := board(t, start(t, open).config)
	tests := []struct {
		name, object string
		spec         map[string]any
		want         []string
	}{
		{"no message", "a", map[string]any{}, []string{"spec.message: Required value"}},
		{"long message", "a", map[string]any{"message": strings.Repeat("x", demov1.MaxMessageBytes+1)}, []string{"spec.message: Too long: may not be more than 1024 bytes"}},
		{"severity", "a", map[string]any{"message": "m", "severity": "loud"}, []string{`spec.severity: Unsupported value: "loud"`, `"info", "warning", "critical"`}},
		{"name", "Bad_Name", map[string]any{"message": "m"}, []string{"metadata.name: Invalid value"}},
		{"two faults", "a", map[string]any{"severity": "loud"}, []string{"spec.message", "spec.severity"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := client.Create(t.Context(), notice(test.object, test.spec), metav1.CreateOptions{})
			if !apierrors.IsInvalid(err) {
				t.Fatalf("create gave %v, want Invalid", err)
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
		})
	}
	mustCreate(t, client, notice("longest", map[string]any{"message": strings.Repeat("x", demov1.MaxMessageBytes)}))
}

func TestStatusSubresource(t *testing.T) {
	client := board(t, start(t, open).config)
	ctx := t.Context()
	made := mustCreate(t, client, notice("water", map[string]any{"message": "off"}))

	set := func(n *unstructured.Unstructured, value string, path ...string) {
		t.Helper()
		if err := unstructured.SetNestedField(n.Object, value, path...); err != nil {
			t.Fatal(err)
		}
	}
	// A write of the status changes nothing else.
	change := made.DeepCopy()
	set(change, "Expired", "status", "phase")
	set(change, "on again", "spec", "message")
	got, err := client.UpdateStatus(ctx, change, metav1.UpdateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if phase, message := valueOf(t, got, "status", "phase"), valueOf(t, got, "spec", "message"); phase != "Expired" || message != "off" || got.GetGeneration() != 1 {
		t.Errorf("status write: phase %q, message %q, generation %d, want Expired, off, 1", phase, message, got.GetGeneration())
	}
	// A write of the notice does not change the status.
	set(got, "on again", "spec", "message")
	set(got, "Active", "status", "phase")
	if got, err = client.Update(ctx, got, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if phase, message := valueOf(t, got, "status", "phase"), valueOf(t, got, "spec", "message"); phase != "Expired" || message != "on again" {
		t.Errorf("write: phase %q, message %q, want Expired, on again", phase, message)
	}
	set(got, "Sleeping", "status", "phase")
	if _, err := client.UpdateStatus(ctx, got, metav1.UpdateOptions{}); !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "status.phase: Unsupported value") {
		t.Errorf("a wrong phase gave %v", err)
	}
}

func TestServerSideApply(t *testing.T) {
	client := board(t, start(t, open).config)
	ctx := t.Context()
	apply := func(manager, message string, force bool) (*unstructured.Unstructured, error) {
		return client.Apply(ctx, "water", notice("water", map[string]any{"message": message}), metav1.ApplyOptions{FieldManager: manager, Force: force})
	}
	made, err := apply("plumber", "off", false)
	if err != nil {
		t.Fatalf("first apply: %v", err)
	}
	owned, err := json.Marshal(made.GetManagedFields())
	if err != nil || !strings.Contains(string(owned), `"f:message"`) || strings.Contains(string(owned), "f:severity") || strings.Contains(string(owned), "f:status") {
		t.Errorf("plumber owns %s, want the message only (%v)", owned, err)
	}
	if _, err := apply("mayor", "on", false); !apierrors.IsConflict(err) || !strings.Contains(err.Error(), ".spec.message") {
		t.Errorf("the mayor's apply gave %v, want a conflict over .spec.message", err)
	}
	got, err := apply("mayor", "on", true)
	if err != nil || valueOf(t, got, "spec", "message") != "on" {
		t.Errorf("forced apply: %v, message %q", err, valueOf(t, got, "spec", "message"))
	}
	_, err = client.Apply(ctx, "water", notice("water", map[string]any{"mesage": "typo"}), metav1.ApplyOptions{FieldManager: "plumber", Force: true})
	if err == nil || !strings.Contains(err.Error(), "mesage") {
		t.Errorf("a field that is not in the schema was applied: %v", err)
	}
}

func TestTable(t *testing.T) {
	server := start(t, open)
	client := board(t, server.config)
	mustCreate(t, client, notice("cake", map[string]any{"message": "There is cake.", "severity": "warning", "expires": "2020-01-01T00:00:00Z"}))

	var got metav1.Table
	getJSON(t, server.config, "/apis/demo.annex.dev/v1/namespaces/default/notices", "application/json;as=Table;v=v1;g=meta.k8s.io", &got)
	var names []string
	for _, c := range got.ColumnDefinitions {
		names = append(names, c.Name)
	}
	if want := []string{"Name", "Severity", "Phase", "Age", "Message"}; !slices.Equal(names, want) {
		t.Errorf("columns %v, want %v", names, want)
	}
	if len(got.Rows) != 1 {
		t.Fatalf("rows %v, want one", got.Rows)
	}
	cells := got.Rows[0].Cells
	if cells[0] != "cake" || cells[1] != "warning" || cells[2] != "Expired" || cells[4] != "There is cake." {
		t.Errorf("cells %v", cells)
	}
	if got.ResourceVersion == "" {
		t.Error("the table of a list has no resourceVersion")
	}
}

// The printed phase follows the clock without a write.
func TestTableFollowsTheClock(t *testing.T) {
	now := time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
	n := &demov1.Notice{
		Spec:   demov1.NoticeSpec{Message: "m", Expires: &metav1.Time{Time: now.Add(time.Minute)}},
		Status: demov1.NoticeStatus{Phase: demov1.PhaseActive},
	}
	for after, want := range map[time.Duration]demov1.Phase{0: "Active", time.Minute - 1: "Active", time.Minute: "Expired"} {
		printer := table{now: func() time.Time { return now.Add(after) }}
		got, err := printer.ConvertToTable(t.Context(), n, &metav1.TableOptions{NoHeaders: true})
		if err != nil {
			t.Fatal(err)
		}
		if len(got.ColumnDefinitions) != 0 || got.Rows[0].Cells[2] != string(want) {
			t.Errorf("after %s: %v under %v, want %s under no headers", after, got.Rows[0].Cells, got.ColumnDefinitions, want)
		}
	}
}

func getJSON(t *testing.T, config *rest.Config, path, accept string, into any) {
	t.Helper()
	client, err := rest.UnversionedRESTClientFor(withCodec(config))
	if err != nil {
		t.Fatal(err)
	}
	data, err := client.Get().AbsPath(path).SetHeader("Accept", accept).DoRaw(t.Context())
	if err != nil {
		t.Fatalf("get %s: %v", path, err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatalf("get %s: %v in %s", path, err, data)
	}
}

// eventually polls until the condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
