package main

import (
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/annex-api/annex/bench/internal/fixture"
)

// events counts what every open watch is to send. No event is lost: a watch that
// is late sends all that it missed.
type events struct {
	mu      sync.Mutex
	count   int64
	changed chan struct{} // closed at the next event; nil while nobody waits
}

// now is the number of events so far; more is closed at the next one.
func (e *events) now() (count int64, more <-chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.changed == nil {
		e.changed = make(chan struct{})
	}
	return e.count, e.changed
}

func (e *events) add() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.count++
	if e.changed != nil {
		close(e.changed)
		e.changed = nil
	}
}

// emit is asked by a control request to let every watch send rate events a
// second, count in all, and answers when the last is on its way.
func (h *handler) emit(w http.ResponseWriter, r *http.Request) {
	rate, err := bounded(r, "rate", fixture.MaxEventRate)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	count, err := bounded(r, "count", rate*fixture.MaxEventSeconds)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	for range count {
		select {
		case <-r.Context().Done():
			return
		case <-h.leaving:
			http.Error(w, "leaving", http.StatusServiceUnavailable)
			return
		case <-tick.C:
		}
		h.events.add()
	}
	write(w, "application/json", []byte("{}"))
}

func bounded(r *http.Request, name string, top int) (int, error) {
	n, err := strconv.Atoi(r.URL.Query().Get(name))
	if err != nil || n < 1 || n > top {
		return 0, fmt.Errorf("%s must be a number from 1 to %d", name, top)
	}
	return n, nil
}
