package store

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/apis/example"
	"k8s.io/apiserver/pkg/storage"
)

// acknowledgedNames are those whose write was acknowledged.
type acknowledgedNames struct {
	mu    sync.Mutex
	names map[string]bool
	lists atomic.Int64
}

func (a *acknowledgedNames) add(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.names == nil {
		a.names = map[string]bool{}
	}
	a.names[name] = true
}

func (a *acknowledgedNames) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.names)
}

func (a *acknowledgedNames) all() map[string]bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.names)
}

// write creates until ctx ends. A write whose answer was lost is no acknowledged one.
func (a *acknowledgedNames) write(ctx context.Context, pods storage.Interface, writer int) {
	for i := 0; ctx.Err() == nil; i++ {
		name := fmt.Sprintf("pod-%d-%d", writer, i)
		if err := pods.Create(ctx, "/pods/default/"+name, podNamed(name), nil, 0); err == nil {
			a.add(name)
		}
	}
}

// neverListedLess lists until ctx ends: an answer has at least what was acknowledged before it was asked for.
func (a *acknowledgedNames) neverListedLess(ctx context.Context, t *testing.T, pods storage.Interface) {
	for ctx.Err() == nil {
		before := a.all()
		got := &example.PodList{}
		bounded, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := pods.GetList(bounded, "/pods/", storage.ListOptions{Predicate: storage.Everything, Recursive: true}, got)
		cancel()
		if err != nil {
			continue
		}
		a.lists.Add(1)
		for _, pod := range got.Items {
			delete(before, pod.Name)
		}
		if len(before) > 0 {
			t.Errorf("a list of %d lacks %d that were acknowledged before", len(got.Items), len(before))
			return
		}
	}
}

// sightings is what a watch has seen, and how far it came.
type sightings struct {
	names map[string]bool
	last  string
}

// watch goes on from where it came whenever the watch ends, until ctx does.
func (s *sightings) watch(ctx context.Context, t *testing.T, pods storage.Interface) {
	for ctx.Err() == nil {
		w, err := pods.Watch(ctx, "/pods/", storage.ListOptions{ResourceVersion: s.last, Predicate: storage.Everything, Recursive: true})
		if err != nil {
			continue
		}
		for event := range w.ResultChan() {
			pod, ok := event.Object.(*example.Pod)
			if !ok {
				break // an error ends it
			}
			if event.Type == watch.Bookmark {
				s.last = pod.ResourceVersion
				continue
			}
			if s.names[pod.Name] {
				t.Errorf("%s is seen twice", pod.Name)
			}
			s.names[pod.Name], s.last = true, pod.ResourceVersion
		}
		w.Stop()
	}
}
