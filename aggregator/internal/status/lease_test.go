package status

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	coordinationclient "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// shelf stores one Lease as an API server does: an update over an older version
// is a conflict.
type shelf struct {
	mu       sync.Mutex
	lease    *coordinationv1.Lease
	version  int
	writes   int
	watchers map[*watch.RaceFreeFakeWatcher]*reach
}

// reach is a server's way to the shelf, which may be cut off, and on which it may
// not be allowed to watch.
type reach struct {
	coordinationclient.LeaseInterface
	*shelf
	cut, deaf bool
	looks     int
}

var errCut = errors.New("cut off")

// Watch tells nothing while it is cut off, and ends when it is so no more.
func (r *reach) Watch(context.Context, metav1.ListOptions) (watch.Interface, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cut || r.deaf {
		return nil, errCut
	}
	w := watch.NewRaceFreeFake()
	if r.lease != nil {
		w.Add(r.lease.DeepCopy())
	}
	if r.watchers == nil {
		r.watchers = map[*watch.RaceFreeFakeWatcher]*reach{}
	}
	r.watchers[w] = r
	return w, nil
}

// tell has the watches of all servers that are not cut off hear of an event.
func (s *shelf) tell(event func(*watch.RaceFreeFakeWatcher)) {
	for w, r := range s.watchers {
		switch {
		case w.IsStopped():
			delete(s.watchers, w)
		case !r.cut:
			event(w)
		}
	}
}

func (r *reach) Get(_ context.Context, name string, _ metav1.GetOptions) (*coordinationv1.Lease, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.looks++
	switch {
	case r.cut:
		return nil, errCut
	case r.lease == nil:
		return nil, apierrors.NewNotFound(coordinationv1.Resource("leases"), name)
	}
	return r.lease.DeepCopy(), nil
}

func (r *reach) Create(_ context.Context, l *coordinationv1.Lease, _ metav1.CreateOptions) (*coordinationv1.Lease, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cut {
		return nil, errCut
	}
	if r.lease != nil {
		return nil, apierrors.NewAlreadyExists(coordinationv1.Resource("leases"), l.Name)
	}
	return r.store(l), nil
}

func (r *reach) Update(_ context.Context, l *coordinationv1.Lease, _ metav1.UpdateOptions) (*coordinationv1.Lease, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cut {
		return nil, errCut
	}
	if r.lease == nil {
		return nil, apierrors.NewNotFound(coordinationv1.Resource("leases"), l.Name)
	}
	if l.ResourceVersion != r.lease.ResourceVersion {
		return nil, apierrors.NewConflict(coordinationv1.Resource("leases"), l.Name, errors.New("another version"))
	}
	return r.store(l), nil
}

func (s *shelf) store(l *coordinationv1.Lease) *coordinationv1.Lease {
	s.version++
	s.writes++
	s.lease = l.DeepCopy()
	s.lease.ResourceVersion = strconv.Itoa(s.version)
	s.tell(func(w *watch.RaceFreeFakeWatcher) { w.Modify(s.lease.DeepCopy()) })
	return s.lease.DeepCopy()
}

func (s *shelf) remove() {
	s.mu.Lock()
	defer s.mu.Unlock()
	gone := s.lease
	s.lease = nil
	s.tell(func(w *watch.RaceFreeFakeWatcher) { w.Delete(gone) })
}

// deafen ends the watches of a server and allows no more.
func (r *reach) deafen() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.deaf = true
	for w, of := range r.watchers {
		if of == r {
			w.Stop()
		}
	}
}

func (r *reach) looked() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.looks
}

func (s *shelf) written() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.writes
}

func (r *reach) cutOff(cut bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cut = cut
	for w, of := range r.watchers {
		if of == r && !cut {
			w.Stop()
		}
	}
}

// candidate is a server that stands for the Lease.
type candidate struct {
	*lease
	reach *reach
	stop  context.CancelFunc
	turns *atomic.Int64 // of the election, as the holder
}

// turning counts the turns of an election.
type turning struct {
	*lease
	turns *atomic.Int64
}

func (l turning) Update(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	l.turns.Add(1)
	return l.lease.Update(ctx, r)
}

// stand starts a candidate, which stands again after each term.
func stand(t *testing.T, s *shelf, identity string, release bool) candidate {
	t.Helper()
	return standOn(t, &reach{shelf: s}, identity, release)
}

func standOn(t *testing.T, r *reach, identity string, release bool) candidate {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	c := candidate{newLease(ctx, r, "ns", "writer", identity), r, cancel, &atomic.Int64{}}
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: turning{c.lease, c.turns}, LeaseDuration: leaseDuration, RenewDeadline: renewDeadline, RetryPeriod: retryPeriod, ReleaseOnCancel: release,
		Callbacks: leaderelection.LeaderCallbacks{OnStartedLeading: c.follow, OnStoppedLeading: func() {}},
	})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for ctx.Err() == nil {
			elector.Run(ctx)
		}
	}()
	return c
}

func (c candidate) mayWrite(t *testing.T) bool {
	t.Helper()
	holds, _ := c.holds(t.Context())
	return holds
}

// settle waits for a time, in which at most one candidate may ever write.
func settle(t *testing.T, d time.Duration, candidates ...candidate) {
	t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		var may []string
		for _, c := range candidates {
			if c.mayWrite(t) {
				may = append(may, c.identity)
			}
		}
		if len(may) > 1 {
			t.Fatalf("%v may write at a time", may)
		}
	}
}

// succession waits until c may write, and says how long that took.
func succession(t *testing.T, c candidate, others ...candidate) time.Duration {
	t.Helper()
	began := time.Now()
	for !c.mayWrite(t) {
		settle(t, 100*time.Millisecond, append(others, c)...)
		if time.Since(began) > time.Minute {
			t.Fatalf("%s does not take over", c.identity)
		}
	}
	return time.Since(began)
}

// patient is how long conditions may stand still after a writer died: the other
// sees its last renewal a pause late, and the end of the Lease another.
const patient = leaseDuration + 2*longestPause

const longestPause = retryPeriod*22/10 + 100*time.Millisecond

// Nobody writes while a server is alone; two of them find out about each other, and
// of that one has left.
func TestLeaseWhileAlone(t *testing.T) {
	t.Run("watching", func(t *testing.T) { synctest.Test(t, func(t *testing.T) { whileAlone(t, false) }) })
	t.Run("looking", func(t *testing.T) { synctest.Test(t, func(t *testing.T) { whileAlone(t, true) }) })
}

func whileAlone(t *testing.T, deaf bool) {
	s := &shelf{}
	first := standOn(t, &reach{shelf: s, deaf: deaf}, "first", true)
	settle(t, 15*time.Second, first)
	before := s.written()
	looks, turns := first.reach.looked(), first.turns.Load()
	time.Sleep(10 * time.Minute)
	looks, turns = first.reach.looked()-looks, first.turns.Load()-turns
	if !deaf && (looks > 0 || turns > 40) {
		t.Errorf("%d looks and %d turns in ten minutes by a server that is told", looks, turns)
	}
	if deaf && (looks < 120 || turns > 330) {
		t.Errorf("%d looks and %d turns in ten minutes by a server that is not told", looks, turns)
	}
	if n := s.written() - before; n < 9 || n > 12 {
		t.Errorf("%d writes in ten minutes in which nobody waits, want one a minute", n)
	}
	if !first.mayWrite(t) {
		t.Fatal("the only server may not write")
	}

	second := stand(t, s, "second", true)
	settle(t, 2*time.Minute, first, second)
	if !first.mayWrite(t) {
		t.Error("the second took over from a server that lives")
	}
	before = s.written()
	settle(t, time.Minute, first, second)
	if n := s.written() - before; n < 12 || n > 20 {
		t.Errorf("%d writes in a minute in which one waits, want one in 4 s", n)
	}

	second.stop()
	time.Sleep(callEvery + callTime + 2*renewEvery)
	before = s.written()
	time.Sleep(10 * time.Minute)
	if n := s.written() - before; n > 12 {
		t.Errorf("%d writes in the ten minutes after the second left", n)
	}
	first.stop()
	time.Sleep(time.Millisecond)
	if current, err := first.reach.Get(t.Context(), "writer", metav1.GetOptions{}); err != nil || holder(current) != "" {
		t.Errorf("%v, %v: a server that stops while it is alone does not give the Lease back at once", current, err)
	}
}

// Who waits takes over from a holder that died, at whatever moment of its life,
// and not from one that lives.
func TestLeaseSuccession(t *testing.T) {
	for _, age := range []time.Duration{0, 3 * time.Second, 11 * time.Second, 58 * time.Second, 63 * time.Second, 65 * time.Second, 5 * time.Minute} {
		t.Run(age.String()+"/watching", func(t *testing.T) { synctest.Test(t, func(t *testing.T) { follows(t, age, false) }) })
		t.Run(age.String()+"/looking", func(t *testing.T) { synctest.Test(t, func(t *testing.T) { follows(t, age, true) }) })
	}
}

func follows(t *testing.T, age time.Duration, deaf bool) {
	s := &shelf{}
	first := standOn(t, &reach{shelf: s, deaf: deaf}, "first", true)
	settle(t, time.Second, first)
	second := stand(t, s, "second", true)
	settle(t, 20*time.Second+age, first, second)
	if !first.mayWrite(t) {
		t.Errorf("age %v: the second took over from a server that lives", age)
	}
	first.reach.cutOff(true)
	if took := succession(t, second, first); took > patient {
		t.Errorf("age %v: the second took over after %v, want %v at most", age, took, patient)
	}
	first.reach.cutOff(false)
	settle(t, 2*time.Minute, first, second)
	if first.mayWrite(t) {
		t.Errorf("age %v: the first is back and writes", age)
	}
	first.stop()
	second.stop()
}

// A holder that cannot watch any more looks again.
func TestLeaseWatchBreaks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{}
		first := stand(t, s, "first", true)
		settle(t, 90*time.Second, first)
		first.reach.deafen()
		second := stand(t, s, "second", true)
		settle(t, 2*time.Minute, first, second)
		if !first.mayWrite(t) {
			t.Error("the second took over from a server that lives")
		}
		first.stop()
		second.stop()
	})
}

// A holder that was cut off while it was alone finds another one when it is back,
// at any moment of its own way to the end of its term, and leaves the Lease to it.
func TestLeaseOfOneThatWasCutOff(t *testing.T) {
	for away := 55 * time.Second; away < 70*time.Second; away += 250 * time.Millisecond {
		synctest.Test(t, func(t *testing.T) {
			s := &shelf{}
			first := stand(t, s, "first", true)
			settle(t, 15*time.Second, first)
			first.reach.cutOff(true)
			second := stand(t, s, "second", true)
			succession(t, second, first)
			settle(t, away-15*time.Second, first, second)
			first.reach.cutOff(false)
			settle(t, 30*time.Second, first, second)
			if first.mayWrite(t) || !second.mayWrite(t) {
				t.Errorf("away for %v: the first took the Lease from a server that lives", away)
			}
			first.stop()
			second.stop()
		})
	}
}

// A newcomer finds a holder that died while it was alone.
func TestLeaseOfTheDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{}
		first := stand(t, s, "first", false)
		settle(t, 5*time.Minute, first)
		first.reach.cutOff(true)
		second := stand(t, s, "second", true)
		if took := succession(t, second, first); took > patient {
			t.Errorf("it took %v, want %v at most", took, patient)
		}
		first.stop()
		second.stop()
	})
}

// Somebody deletes the Lease, of a holder that is alone and of one that is not.
func TestLeaseDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{}
		first := stand(t, s, "first", true)
		remove := func() {
			s.remove()
			time.Sleep(10 * time.Second) // until the holder has noticed: no election survives this
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.lease == nil {
				t.Error("nobody made the Lease anew")
			}
		}
		settle(t, 5*time.Minute, first)
		remove()
		if !first.mayWrite(t) {
			t.Error("the only server may not write")
		}
		second := stand(t, s, "second", true)
		settle(t, 20*time.Second, first, second)
		remove()
		settle(t, 90*time.Second, first, second)
		if !first.mayWrite(t) && !second.mayWrite(t) {
			t.Error("nobody may write")
		}
		first.stop()
		second.stop()
	})
}

// A holder that gives the Lease back is followed at once.
func TestLeaseGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{}
		first := stand(t, s, "first", true)
		settle(t, time.Second, first)
		second := stand(t, s, "second", true)
		settle(t, 90*time.Second, first, second)
		first.stop()
		if took := succession(t, second, first); took > longestPause {
			t.Errorf("it took %v", took)
		}
		second.stop()
	})
}

// A holder stops before others may begin.
func TestLeaseTimes(t *testing.T) {
	if last := renewEvery + retryPeriod/2 + renewDeadline; last >= leaseDuration {
		t.Errorf("a writer goes on for %v after its last renewal, others begin after %v", last, leaseDuration)
	}
	if sureFor >= leaseDuration {
		t.Errorf("a writer is sure of the Lease for %v, others begin after %v", sureFor, leaseDuration)
	}
}
