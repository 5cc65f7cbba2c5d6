package backend

import (
	"sync"
	"time"
)

// timers call functions later. Stop waits for calls that have begun, and lets no other begin.
type timers struct {
	mu      sync.Mutex
	waiting map[*time.Timer]struct{}
	stopped bool
	calls   sync.WaitGroup // those that wait too
}

// after calls f once, unless stop comes first. It does not block.
func (t *timers) after(wait time.Duration, f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stopped {
		return
	}
	if t.waiting == nil {
		t.waiting = map[*time.Timer]struct{}{}
	}
	t.calls.Add(1)
	var timer *time.Timer
	timer = time.AfterFunc(wait, func() {
		defer t.calls.Done()
		t.mu.Lock()
		delete(t.waiting, timer)
		t.mu.Unlock()
		f()
	})
	t.waiting[timer] = struct{}{}
}

func (t *timers) stop() {
	t.mu.Lock()
	t.stopped = true
	for timer := range t.waiting {
		if timer.Stop() {
			t.calls.Done()
		}
	}
	clear(t.waiting)
	t.mu.Unlock()
	t.calls.Wait()
}
