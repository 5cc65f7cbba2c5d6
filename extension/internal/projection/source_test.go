package projection

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

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
	return newFollower(newSource(func(c *Config) { c.Ring, c.Stale = storage, time.Minute }), klog.Background()), storage
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

// Where no object can be shown the kind answers 503, and not an empty list; with the first that can,
// or that is not to be shown, or when all are gone, it is back.
func TestFollowerIsBlindWhereNothingCanBeShown(t *testing.T) {
	object := func(name, version string, broken bool) *unstructured.Unstructured {
		u := parse(t, service)
		u.SetName(name)
		u.SetUID(types.UID(name))
		u.SetResourceVersion(version)
		if broken {
			u.Object["spec"].(map[string]any)["externalName"] = []any{"no text"}
		}
		return u
	}
	for name, c := range map[string]struct {
		recover func(f *follower) error
		want    map[string]bool
	}{
		"one can be shown": {func(f *follower) error { return f.Update(object("b", "9", false)) }, map[string]bool{"b": true}},
		"one is not shown": {func(f *follower) error { return f.Update(object("hidden", "9", false)) }, nil},
		"one comes":        {func(f *follower) error { return f.Add(object("c", "9", false)) }, map[string]bool{"c": true}},
		"all are gone": {func(f *follower) error {
			return errors.Join(f.Delete(object("a", "8", true)), f.Delete(object("b", "9", true)))
		}, nil},
		"there is a new list": {func(f *follower) error { return f.Replace([]any{object("a", "9", true), object("b", "9", false)}, "9") }, map[string]bool{"b": true}},
	} {
		for how, blind := range map[string]func(f *follower) error{
			"at the start": func(f *follower) error { return f.Replace([]any{object("a", "5", true), object("b", "6", true)}, "6") },
			"by a list": func(f *follower) error {
				return errors.Join(f.Replace([]any{object("a", "3", false), object("b", "4", false)}, "4"), f.Replace([]any{object("a", "5", true), object("b", "6", true)}, "6"))
			},
			"by events": func(f *follower) error {
				return errors.Join(f.Replace([]any{object("a", "3", false), object("b", "4", false)}, "4"), f.Update(object("a", "5", true)), f.Update(object("b", "6", true)))
			},
			"by a deletion": func(f *follower) error {
				return errors.Join(f.Replace([]any{object("a", "3", true), object("b", "4", true), object("d", "5", false)}, "5"), f.Delete(object("d", "6", false)))
			},
		} {
			f, storage := following(t)
			to := f.source.To
			f.source.To = func(from any, into runtime.Object) (bool, error) {
				shown, err := to(from, into)
				return shown && into.(*corev1.Pod).Name != "hidden", err
			}
			if err := blind(f); err != nil {
				t.Fatal(err)
			}
			if err := storage.ReadinessCheck(); err == nil || !strings.Contains(err.Error(), "none of the 2 services can be shown") {
				t.Errorf("%s: ready is %v", how, err)
			}
			if err := c.recover(f); err != nil {
				t.Fatal(err)
			}
			if err := storage.ReadinessCheck(); err != nil {
				t.Errorf("%s, %s: ready is %v", how, name, err)
			}
			for _, pod := range []string{"a", "b", "c", "d", "hidden"} {
				if got := storage.VersionOf("n", pod) > 0; got != c.want[pod] {
					t.Errorf("%s, %s: that %s is shown is %v", how, name, pod, got)
				}
			}
			storage.Close()
		}
	}
}
