package projection

import (
	"context"
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
)

// moment is one state of one object at the source.
type moment struct {
	uid     types.UID
	version string
}

// sighting is a moment with the resourceVersion that it has in the ring.
type sighting struct {
	moment
	version uint64
}

// recentMoments is how many moments are remembered that may be past.
const recentMoments = 1024

// seen says how far the ring has come. Whoever wrote to the source waits here until the
// ring shows it.
type seen struct {
	mu sync.Mutex
	// last is the latest resourceVersion of the source.
	last string
	// current has what each object that is shown is now.
	current map[types.UID]sighting
	// recent has moments that may be past, the oldest first in order.
	recent map[moment]uint64
	order  []moment
	// changed is closed, and another put in its place, whenever something above has changed.
	changed chan struct{}
}

func newSeen() *seen {
	return &seen{current: map[types.UID]sighting{}, recent: map[moment]uint64{}, changed: make(chan struct{})}
}

func (s *seen) put(at sighting) {
	s.change(at.moment.version, func() {
		s.current[at.uid] = at
		if _, twice := s.recent[at.moment]; twice {
			return
		}
		if len(s.order) == recentMoments {
			delete(s.recent, s.order[0])
			s.order = s.order[1:]
		}
		s.recent[at.moment] = at.version
		s.order = append(s.order, at.moment)
	})
}

func (s *seen) replace(all []sighting, last string) {
	current := make(map[types.UID]sighting, len(all))
	for _, at := range all {
		current[at.uid] = at
	}
	s.change(last, func() { s.current = current })
}

func (s *seen) gone(uid types.UID, last string) { s.change(last, func() { delete(s.current, uid) }) }

func (s *seen) advance(last string) { s.change(last, func() {}) }

func (s *seen) change(last string, do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = last
	do()
	close(s.changed)
	s.changed = make(chan struct{})
}

// verdict is what the ring knows of a moment.
type verdict int

const (
	// notYet: it has not come so far.
	notYet verdict = iota
	// known: it shows it, or did.
	known
	// passed: it has come further without it.
	passed
)

// look says what the ring knows of a moment.
func (s *seen) look(at moment) (version uint64, v verdict, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now, ok := s.current[at.uid]; ok && now.moment == at {
		return now.version, known, nil
	}
	if version, ok := s.recent[at]; ok {
		return version, known, nil
	}
	// A resourceVersion that is no number cannot be compared: then it is equal or unknown.
	if order, err := resourceversion.CompareResourceVersion(s.last, at.version); s.last == at.version || err == nil && order > 0 {
		return 0, passed, nil
	}
	return 0, notYet, s.changed
}

// wait is look after the ring has come to a moment, or ctx has ended.
func (s *seen) wait(ctx context.Context, at moment) (uint64, verdict) {
	for {
		version, v, changed := s.look(at)
		if v != notYet {
			return version, v
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return 0, notYet
		}
	}
}

// waitGone waits until the ring no longer shows an object. It is false if ctx ended
// before.
func (s *seen) waitGone(ctx context.Context, uid types.UID) bool {
	for {
		s.mu.Lock()
		_, there := s.current[uid]
		changed := s.changed
		s.mu.Unlock()
		if !there {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}
