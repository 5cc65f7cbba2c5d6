package bulletin_test

import (
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/annex-api/annex/examples/bulletin"
	v1 "github.com/annex-api/annex/examples/bulletin/v1"
	"github.com/annex-api/annex/extension/extensiontest"
	"github.com/annex-api/annex/extension/extensiontest/conformance"
)

func TestConformance(t *testing.T) {
	running := extensiontest.Start(t, nil, bulletin.Notices)
	extensiontest.Conform(t, running, conformance.Target{Resource: v1.GroupVersion.WithResource("notices")}, "scale/*", "versions/*", "apply/other-version")
}

func TestNoticeLifeCycle(t *testing.T) {
	running := extensiontest.Start(t, nil, bulletin.Notices)
	client, err := dynamic.NewForConfig(running.Config)
	if err != nil {
		t.Fatal(err)
	}
	board := client.Resource(v1.GroupVersion.WithResource("notices")).Namespace("default")
	create := func(name string, spec map[string]any) (*unstructured.Unstructured, error) {
		return board.Create(t.Context(), &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "demo.annex.dev/v1", "kind": "Notice", "metadata": map[string]any{"name": name}, "spec": spec,
		}}, metav1.CreateOptions{})
	}
	phase := func(n *unstructured.Unstructured) string {
		value, _, err := unstructured.NestedString(n.Object, "status", "phase")
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
	water, err := create("water", map[string]any{"message": "The water is off from 9 to 10."})
	if err != nil || phase(water) != "Active" {
		t.Errorf("a new notice: %v, phase %q, want Active", err, phase(water))
	}
	if severity, _, _ := unstructured.NestedString(water.Object, "spec", "severity"); severity != "info" {
		t.Errorf("the severity of a notice that has none is %q, want info", severity)
	}
	cake, err := create("cake", map[string]any{"message": "There is cake.", "expires": "2020-01-01T00:00:00Z"})
	if err != nil || phase(cake) != "Expired" {
		t.Errorf("a notice of the past: %v, phase %q, want Expired", err, phase(cake))
	}
	patch := []byte(`{"spec":{"expires":"2999-01-01T00:00:00Z"}}`)
	cake, err = board.Patch(t.Context(), "cake", types.MergePatchType, patch, metav1.PatchOptions{})
	if err != nil || phase(cake) != "Active" || cake.GetGeneration() != 2 {
		t.Errorf("a later end: %v, phase %q, generation %d, want Active, 2", err, phase(cake), cake.GetGeneration())
	}
	if _, err := create("loud", map[string]any{"message": "m", "severity": "loud"}); !apierrors.IsInvalid(err) {
		t.Errorf("a severity that there is not gives %v, want Invalid", err)
	}
	loud, err := board.List(t.Context(), metav1.ListOptions{FieldSelector: "spec.severity=info"})
	if err != nil || len(loud.Items) != 2 {
		t.Errorf("by severity: %v, %d notices, want 2", err, len(loud.Items))
	}
}

// The printed phase follows the clock without a write.
func TestThePrintedPhaseFollowsTheClock(t *testing.T) {
	now := time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
	n := &v1.Notice{Spec: v1.NoticeSpec{Message: "m", Expires: &metav1.Time{Time: now.Add(time.Minute)}}, Status: v1.NoticeStatus{Phase: v1.PhaseActive}}
	for after, want := range map[time.Duration]v1.Phase{0: v1.PhaseActive, time.Minute - 1: v1.PhaseActive, time.Minute: v1.PhaseExpired} {
		if got := n.PhaseAt(now.Add(after)); got != want {
			t.Errorf("after %v the phase is %s, want %s", after, got, want)
		}
	}
}
