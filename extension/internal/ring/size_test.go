package ring

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/cacher"
	"k8s.io/apiserver/pkg/storage/cacher/metrics"
	"k8s.io/component-base/metrics/testutil"
)

var (
	resourceOfMaps = schema.GroupResource{Group: "sizes.example.com", Resource: "configmaps"}
	getOptions     storage.GetOptions
)

func newMap() runtime.Object  { return &corev1.ConfigMap{} }
func newMaps() runtime.Object { return &corev1.ConfigMapList{} }

func TestSizeOf(t *testing.T) {
	text := strings.Repeat("x", 100_000)
	for name, o := range map[string]runtime.Object{
		"text":         &corev1.ConfigMap{Data: map[string]string{"a": text}},
		"bytes":        &corev1.ConfigMap{BinaryData: map[string][]byte{"a": []byte(text)}},
		"structs":      &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Image: text}}}},
		"unstructured": &unstructured.Unstructured{Object: map[string]any{"a": []any{map[string]any{"b": text}}}},
		"times":        &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.Now(), Name: text}},
	} {
		if got := sizeOf(o); got < 100_000 || got > 110_000 {
			t.Errorf("%s: an object with a text of 100,000 takes %d", name, got)
		}
	}
}

// large are events of about 100,000 bytes each.
func large(n int) Object { return object("a", strings.Repeat("x", 100_000)+fmt.Sprint(n)) }

// TestWindowHasABoundOfBytes: what came in the last moments stays, and else no more than Bytes.
func TestWindowHasABoundOfBytes(t *testing.T) {
	window := Window{Age: time.Hour, Events: 10, Most: 100_000, Bytes: 1 << 20}
	now := time.UnixMicro(1)
	s := NewState(now, 7, 0, window, nil)
	for n := range 50 {
		s.Put(now, large(n))
	}
	if len(s.events) != 50 {
		t.Fatalf("%d of 50 events are left which the watch cache may not have taken yet", len(s.events))
	}
	now = now.Add(settling + 1)
	s.Put(now, large(50))
	if got := len(s.events); got < 10 || got > 11 {
		t.Errorf("%d events of 100,000 bytes are left in 1 MiB", got)
	}
	total := int64(0)
	for _, e := range s.events {
		total += e.Size
	}
	if s.size != total || total > window.Bytes {
		t.Errorf("the size of all is %d, the sum %d", s.size, total)
	}
}

// TestWatchCacheHasABoundOfBytes: it too keeps no more for large events than its least number.
func TestWatchCacheHasABoundOfBytes(t *testing.T) {
	metrics.Register()
	for bytes, want := range map[int64]float64{1 << 20: 100, 1 << 30: 800} {
		synctest.Test(t, func(t *testing.T) {
			s, err := NewStorage(Config{
				Resource: resourceOfMaps, New: newMap, NewList: newMaps, Replica: 7,
				Window: Window{Age: time.Hour, Events: 100, Most: 100_000, Bytes: bytes},
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Update(nil); err != nil {
				t.Fatal(err)
			}
			c, err := NewCache(s)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Stop()
			time.Sleep(time.Second)
			for n := range 500 {
				if err := s.Put(large(n).Object); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Millisecond)
			}
			synctest.Wait()
			got, err := testutil.GetGaugeMetricValue(metrics.WatchCacheCapacity.WithLabelValues(resourceOfMaps.Group, resourceOfMaps.Resource))
			if err != nil || got != want {
				t.Errorf("with %d bytes the watch cache has room for %v events, want %v: %v", bytes, got, want, err)
			}
			time.Sleep(4 * time.Second) // waits of the cache end
		})
	}
}

// Times never run back, are never behind, and are right where little comes.
func TestRecordedTimes(t *testing.T) {
	r := recorder{window: Window{Bytes: 1000}}
	start := time.UnixMicro(1_000_000)
	at := func(e Event) time.Duration {
		return r.record(e).(*recorded).RecordTime().Sub(start)
	}
	e := Event{Object: newMap(), At: start, Size: 500}
	if first, second := at(e), at(e); first != 0 || second != cacher.DefaultEventFreshDuration/2 {
		t.Errorf("two of half the bytes are at %s and %s", first, second)
	}
	e.At = start.Add(time.Hour)
	if got := at(e); got != time.Hour {
		t.Errorf("an hour later it is %s", got)
	}
}
