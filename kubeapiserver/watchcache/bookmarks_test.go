package watchcache

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/cacher"
	etcdfeature "k8s.io/apiserver/pkg/storage/feature"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/utils/clock"
)

// empty is storage that holds nothing, and where nothing happens.
type empty struct{ storage.Interface }

func (empty) Versioner() storage.Versioner                              { return storage.APIObjectVersioner{} }
func (empty) ReadinessCheck() error                                     { return nil }
func (empty) RequestWatchProgress(context.Context) error                { return nil }
func (empty) GetCurrentResourceVersion(context.Context) (uint64, error) { return 1, nil }
func (empty) EnableResourceSizeEstimation(storage.KeysFunc) error       { return nil }
func (empty) CompactRevision() int64                                    { return 0 }
func (empty) Stats(context.Context) (stats storage.Stats, err error)    { return }
func (empty) Watch(_ context.Context, _ string, opts storage.ListOptions) (watch.Interface, error) {
	w := watch.NewRaceFreeFake()
	if opts.SendInitialEvents != nil && *opts.SendInitialEvents {
		w.Action(watch.Bookmark, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
			ResourceVersion: "1", Annotations: map[string]string{metav1.InitialEventsAnnotationKey: "true"},
		}})
	}
	// Bookmarks tell of what has happened since a watch's beginning alone.
	w.Action(watch.Bookmark, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{ResourceVersion: "1000"}})
	return w, nil
}

func (empty) GetList(_ context.Context, _ string, _ storage.ListOptions, list apiruntime.Object) error {
	list.(*corev1.ConfigMapList).ResourceVersion = "1"
	return nil
}

// etcd36 says that all that caches ask of etcd is supported.
type etcd36 struct{}

func (etcd36) Endpoints() []string { return []string{"etcd"} }
func (etcd36) Status(context.Context, string) (*clientv3.StatusResponse, error) {
	return &clientv3.StatusResponse{Version: "3.6.8"}, nil
}

func supportWatchLists(t *testing.T) {
	t.Helper()
	etcdfeature.DefaultFeatureSupportChecker.CheckClient(t.Context(), etcd36{}, storage.RequestWatchProgress)
	for !etcdfeature.DefaultFeatureSupportChecker.Supports(storage.RequestWatchProgress) {
		time.Sleep(time.Millisecond)
	}
}

// countingTicks is a clock that counts how often the timer of bookmarks ends.
type countingTicks struct {
	clock.WithTicker
	ticks *atomic.Int64
}

func (c countingTicks) NewTimer(d time.Duration) clock.Timer {
	t := c.WithTicker.NewTimer(d)
	if d < tickMin || d > tickMax {
		return t
	}
	return tickCounter{t, c.ticks}
}

type tickCounter struct {
	clock.Timer
	ticks *atomic.Int64
}

func (t tickCounter) Reset(d time.Duration) bool {
	t.ticks.Add(1)
	return t.Timer.Reset(d)
}

// open returns the watch cache of nothing in a bubble of synctest, either as
// k8s.io/apiserver makes it or as this package does.
func open(t *testing.T, reference bool) (storage.Interface, *atomic.Int64) {
	t.Helper()
	config := cacher.Config{
		Storage:             empty{},
		Versioner:           storage.APIObjectVersioner{},
		GroupResource:       schema.GroupResource{Resource: "configmaps"},
		EventsHistoryWindow: cacher.DefaultEventFreshDuration,
		ResourcePrefix:      "/configmaps",
		KeyFunc: func(o apiruntime.Object) (string, error) {
			return "/configmaps/default/" + o.(*corev1.ConfigMap).Name, nil
		},
		NewFunc: newConfigMap, NewListFunc: newConfigMaps,
		GetAttrsFunc: storage.DefaultNamespaceScopedAttr,
		Codec:        scheme.Codecs.LegacyCodec(corev1.SchemeGroupVersion),
	}
	// A cache begins at any time, and looks up to some milliseconds late.
	time.Sleep(4 * time.Millisecond)
	var asked atomic.Int64
	config.NewFunc = func() apiruntime.Object {
		time.Sleep(time.Duration(asked.Add(1)%3) * 3 * time.Millisecond)
		return newConfigMap()
	}
	bookmarks := newBookmarkClock()
	ticks := new(atomic.Int64)
	config.Clock = countingTicks{bookmarks, ticks}
	if reference {
		config.Clock = countingTicks{clock.RealClock{}, ticks}
	}
	watched, err := cacher.NewCacherFromConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	delegator := cacher.NewCacheDelegator(watched, config.Storage)
	t.Cleanup(func() {
		delegator.Stop()
		watched.Stop()
		time.Sleep(time.Second) // looks that are under way
	})
	for delegator.ReadinessCheck() != nil {
		time.Sleep(10 * time.Millisecond)
	}
	if reference {
		return delegator, ticks
	}
	return expecting{delegator, bookmarks}, ticks
}

// bookmarks opens a watch and returns the times since its start at which
// bookmarks came, until it ends.
func bookmarks(t *testing.T, s storage.Interface, lasting time.Duration, deadline bool, initial *bool) []time.Duration {
	ctx := t.Context()
	began := time.Now()
	if deadline {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, began.Add(lasting))
		defer cancel()
	}
	opts := storage.ListOptions{
		ResourceVersion: "1", Recursive: true, SendInitialEvents: initial,
		Predicate: storage.SelectionPredicate{
			Label: labels.Everything(), Field: fields.Everything(), AllowWatchBookmarks: true,
			GetAttrs: storage.DefaultNamespaceScopedAttr,
		},
	}
	if initial != nil {
		opts.ResourceVersionMatch = metav1.ResourceVersionMatchNotOlderThan
	}
	w, err := s.Watch(ctx, "/configmaps", opts)
	if err != nil {
		t.Error(err)
		return nil
	}
	defer w.Stop()
	var at []time.Duration
	for end := time.After(lasting); ; {
		select {
		case <-end:
			return at
		case e, ok := <-w.ResultChan():
			if !ok {
				return at
			}
			if e.Type == watch.Bookmark {
				at = append(at, time.Since(began))
			}
		}
	}
}

// Watches of all kinds get their bookmarks when those of the reference do, and
// that a cache looks for them less often is not seen.
func TestBookmarksComeInTime(t *testing.T) {
	yes := true
	kinds := []struct {
		name     string
		lasting  time.Duration
		deadline bool
		initial  *bool
	}{
		{"without a deadline", 5 * time.Minute, false, nil},
		{"half a minute", 30 * time.Second, true, nil},
		{"a minute", time.Minute, true, nil},
		{"a minute and a half", 90*time.Second + 300*time.Millisecond, true, nil},
		{"some minutes", 250*time.Second + 700*time.Millisecond, true, nil},
		{"three seconds", 3 * time.Second, true, nil},
		{"one second", time.Second, true, nil},
		{"initial events", 100 * time.Second, true, &yes},
	}
	run := func(reference bool) (got map[string][]time.Duration, ticks int64) {
		got = map[string][]time.Duration{}
		synctest.Test(t, func(t *testing.T) {
			s, ticked := open(t, reference)
			var group sync.WaitGroup
			var mu sync.Mutex
			for round := range 8 {
				for _, k := range kinds {
					group.Go(func() {
						at := bookmarks(t, s, k.lasting, k.deadline, k.initial)
						mu.Lock()
						defer mu.Unlock()
						got[fmt.Sprintf("%s, watch %d", k.name, round)] = at
					})
					time.Sleep(1337 * time.Millisecond)
				}
				time.Sleep(73 * time.Second)
			}
			group.Wait()
			before := ticked.Load()
			time.Sleep(time.Hour)
			ticks = ticked.Load() - before
		})
		return got, ticks
	}
	supportWatchLists(t)
	want, _ := run(true)
	got, ticks := run(false)
	if len(want) != 8*len(kinds) {
		t.Fatalf("%d watches", len(want))
	}
	for name, ref := range want {
		ours := got[name]
		if len(ref) == 0 && !strings.HasPrefix(name, "one second") {
			t.Errorf("%s: the reference sent none", name)
		}
		// Looks of the reference are 1 to 1.25 s apart, and it counts a minute from
		// the bookmark before. At the end of a watch it sends one or two.
		near := func(as, bs []time.Duration) bool {
			for i, a := range as {
				late := time.Duration(i+1) * 1250 * time.Millisecond
				if !slices.ContainsFunc(bs, func(b time.Duration) bool { return (a - b).Abs() <= late }) && a < 5*time.Minute-2*late {
					return false
				}
			}
			return true
		}
		if !near(ref, ours) || !near(ours, ref) {
			t.Errorf("%s: bookmarks after %v, the reference's after %v", name, ours, ref)
		}
	}
	if ticks > 70 {
		t.Errorf("without watches the cache looked %d times in an hour", ticks)
	}
}

// What one silent watch costs: a look when it is due, and one a second later.
func TestLooksOfASilentWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, ticks := open(t, false)
		before := ticks.Load()
		got := bookmarks(t, s, time.Hour, true, nil)
		if n := ticks.Load() - before; n > 150 || len(got) < 57 {
			t.Errorf("%d looks, %d bookmarks in an hour", n, len(got))
		}
		if last := time.Hour - got[len(got)-1]; last < time.Second || last > bookmarkBefore {
			t.Errorf("the last bookmark came %v before the end", last)
		}
	})
}

// A client that asks for many long watches and leaves them leaves nothing behind.
func TestEndedWatchesAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newBookmarkClock()
		for i := range 1000 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i+3)*time.Hour)
			c.expect(ctx)
			c.expect(ctx)
			if len(c.ends) != 1 {
				t.Fatalf("%d seconds are noted", len(c.ends))
			}
			cancel()
			synctest.Wait()
		}
		if len(c.ends) > 0 {
			t.Errorf("%d seconds are still noted", len(c.ends))
		}
		for range 500 {
			c.Now()
			time.Sleep(777 * time.Millisecond)
			c.mu.Lock()
			c.rest(time.Now())
			c.mu.Unlock()
		}
		if n := len(c.due); n > 62 {
			t.Errorf("%d seconds are noted", n)
		}
	})
}

// After a watch was noted the cache looks at once, for those that wait for the end
// of their initial events, and after a minute.
func TestTheTimerEndsWhereAWatchMayBeDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newBookmarkClock()
		timer := c.NewTimer(tickMin)
		began := time.Now()
		var ended []time.Duration
		go func() {
			for range timer.C() {
				ended = append(ended, time.Since(began))
				timer.Reset(tickMin)
				if time.Since(began) > 10*time.Minute {
					timer.Stop()
					return
				}
			}
		}()
		time.Sleep(20*time.Second + 300*time.Millisecond)
		c.Now()
		timer.Reset(tickMin) // as after a look that ended just then
		time.Sleep(11 * time.Minute)
		c.Now() // rests for good
		time.Sleep(time.Minute)
		want := []time.Duration{}
		for _, second := range []int{21, 81, 141, 201, 261, 321, 381, 441, 501, 561, 621} {
			want = append(want, time.Duration(second)*time.Second)
		}
		if !slices.Equal(ended, want) {
			t.Errorf("it ended after %v, want %v", ended, want)
		}
		if other := c.NewTimer(15 * time.Second); reflect.TypeOf(other) == reflect.TypeOf(timer) {
			t.Error("any timer is one of bookmarks")
		}
	})
}

// A cache counts seconds from when it was made: they are to be those of the clock.
func TestTheCachesSecondsAreTheClocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(4 * time.Millisecond)
		c := newBookmarkClock()
		time.Sleep(1100 * time.Millisecond)
		for range 2 {
			if made := c.Now().Sub(c.epoch); made != time.Second {
				t.Errorf("made after %v", made)
			}
		}
		c.NewTimer(tickMin)
		if late := time.Since(c.Now()); late != 0 {
			t.Errorf("the clock is %v late", late)
		}
	})
}
