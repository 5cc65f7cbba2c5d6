package ring

import (
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/cacher"
)

// history is how long the watch cache keeps an event at least. It takes nothing shorter.
func (w Window) history() time.Duration { return max(w.Age, cacher.DefaultEventFreshDuration) }

// recorder says when events came, as the watch cache is told. The cache makes room as long as
// all its events are younger than its history, whatever their size, and takes an event's word
// for its age (storage.WatchEventWithRecordTime). So that it too keeps no more than Bytes, or
// its least number of events, the time of a recorder is ahead while more than that come.
type recorder struct {
	window Window
	last   time.Time
}

func (r *recorder) record(e Event) runtime.Object {
	ahead := time.Duration(0)
	if r.window.Bytes > 0 {
		ahead = time.Duration(float64(r.window.history()) * float64(e.Size) / float64(r.window.Bytes))
	}
	r.last = r.last.Add(ahead)
	if r.last.Before(e.At) {
		r.last = e.At
	}
	return &recorded{Object: e.Object, at: r.last}
}

// recorded is an event's object with its time. The watch cache takes it off.
type recorded struct {
	runtime.Object
	at time.Time
}

var _ storage.WatchEventWithRecordTime = &recorded{}

// GetObjectMeta implements metav1.ObjectMetaAccessor.
func (r *recorded) GetObjectMeta() metav1.Object {
	m, err := meta.Accessor(r.Object)
	if err != nil {
		return nil // it was found when the object came in
	}
	return m
}

// DeepCopyObject implements runtime.Object.
func (r *recorded) DeepCopyObject() runtime.Object { return &recorded{r.Object.DeepCopyObject(), r.at} }

// RecordTime implements storage.WatchEventWithRecordTime.
func (r *recorded) RecordTime() time.Time { return r.at }

// Unwrap implements storage.WatchEventWithRecordTime.
func (r *recorded) Unwrap() runtime.Object { return r.Object }
