package projection

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/annex-api/annex/extension/internal/ring"
)

// following is a follower of a ring of pods.
func following(t *testing.T) (*follower, *ring.Storage) {
	t.Helper()
	storage, err := ring.NewStorage(ring.Config{
		Resource: schema.GroupResource{Group: "pods.example.com", Resource: "pods"}, Namespaced: true,
		New: func() runtime.Object { return &corev1.Pod{} }, NewList: func() runtime.Object { return &corev1.PodList{} },
	})
	if err != nil {
		t.Fatal(err)
	}
	return &follower{source: newSource(func(c *Config) { c.Ring, c.Stale = storage, time.Minute })}, storage
}

// An API server that is away for long makes the kind answer 503, and not what was there long ago.
func TestFollowerWithdrawsWhatIsTooOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, storage := following(t)
		defer storage.Close()
		if err := f.Replace([]any{parse(t, service)}, "3"); err != nil {
			t.Fatal(err)
		}
		away := errors.New("connection refused")
		f.reached(away)
		time.Sleep(50 * time.Second)
		f.reached(away)
		if err := storage.ReadinessCheck(); err != nil {
			t.Errorf("after 50 seconds: %v", err)
		}
		f.reached(nil)
		f.reached(away)
		time.Sleep(50 * time.Second)
		f.reached(away)
		if err := storage.ReadinessCheck(); err != nil {
			t.Errorf("50 seconds after it was reached: %v", err)
		}
		time.Sleep(10 * time.Second)
		f.reached(away)
		if err := storage.ReadinessCheck(); err == nil || !strings.Contains(err.Error(), "connection refused") {
			t.Errorf("after a minute: %v", err)
		}
		if err := f.Replace([]any{parse(t, service)}, "4"); err != nil || storage.ReadinessCheck() != nil || f.withdrawn {
			t.Errorf("after a new list: %v, %v", err, storage.ReadinessCheck())
		}
	})
}

// An object that cannot be shown is not shown, and keeps no other from being shown.
func TestFollowerLeavesOutWhatCannotBeShown(t *testing.T) {
	f, storage := following(t)
	defer storage.Close()
	good, bad := parse(t, service), parse(t, service)
	bad.SetName("not/a/name")
	bad.SetUID("bad")
	if err := f.Replace([]any{bad, good}, "3"); err != nil {
		t.Fatal(err)
	}
	version := storage.VersionOf("n", "a")
	if got, v, _ := f.source.seen.look(momentOf(good)); v != known || got != version || version == 0 {
		t.Errorf("the good one is %d at %d, in the ring at %d", v, got, version)
	}
	good.SetResourceVersion("5")
	good.Object["spec"].(map[string]any)["clusterIP"] = "192.0.2.1"
	if err := f.Update(good); err != nil {
		t.Fatal(err)
	}
	if got, v, _ := f.source.seen.look(momentOf(good)); v != known || got != version || storage.VersionOf("n", "a") != version {
		t.Errorf("after a change that is not shown it is %d at %d, and was at %d", v, got, version)
	}
	if err := f.Delete(good); err != nil || storage.VersionOf("n", "a") != 0 {
		t.Errorf("after its deletion it is in the ring at %d, %v", storage.VersionOf("n", "a"), err)
	}
}
