package status

import (
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// pair is two servers' leases over one shelf.
func pair(t *testing.T) (a, b *lease) {
	t.Helper()
	s := &shelf{}
	named := func(identity string) *lease {
		return newLease(t.Context(), &reach{shelf: s}, "", "status", identity)
	}
	a, b = named("a"), named("b")
	if err := a.Create(t.Context(), resourcelock.LeaderElectionRecord{HolderIdentity: "a"}); err != nil {
		t.Fatal(err)
	}
	return a, b
}

// Who waits for the Lease may have counted for a while when the holder sees it: what
// the holder saw is good for one write, not for the time that a renewal is.
func TestTheHolderIsNotSureWhileSomebodyWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pair(t)
		holds := func(want bool) {
			t.Helper()
			if got, err := a.holds(t.Context()); got != want || err != nil {
				t.Errorf("holds: %t, error %v; want %t", got, err, want)
			}
		}
		time.Sleep(sureFor)
		holds(true) // nobody waits
		if _, _, err := b.Get(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(sureFor)
		holds(true)
		if !a.due(t.Context()) {
			t.Error("no renewal is due, though another server waits")
		}
		if err := b.Update(t.Context(), resourcelock.LeaderElectionRecord{HolderIdentity: "b", LeaderTransitions: 1}); err != nil {
			t.Fatal(err)
		}
		holds(false)
		if !a.due(t.Context()) {
			t.Error("the election does not find out")
		}
		if err := a.Update(t.Context(), resourcelock.LeaderElectionRecord{HolderIdentity: "a"}); err == nil {
			t.Error("the Lease of another server was renewed")
		}
		if err := a.Update(t.Context(), resourcelock.LeaderElectionRecord{HolderIdentity: "a", LeaderTransitions: 1}); err == nil {
			t.Error("the Lease of another server was renewed in its own term")
		}
		if err := a.Update(t.Context(), resourcelock.LeaderElectionRecord{HolderIdentity: "a", LeaderTransitions: 2}); err != nil {
			t.Errorf("the Lease is not taken over: %v", err)
		}
	})
}

func TestTheLeaseOfAnotherServerIsNotGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pair(t)
		if _, _, err := b.Get(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := b.Update(t.Context(), resourcelock.LeaderElectionRecord{}); err == nil {
			t.Error("a server gave up a Lease that it does not hold")
		}
		if holds, err := a.holds(t.Context()); !holds || err != nil {
			t.Errorf("the holder holds: %t, error %v", holds, err)
		}
		if _, _, err := a.Get(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := a.Update(t.Context(), resourcelock.LeaderElectionRecord{}); err != nil {
			t.Fatal(err)
		}
		if holds, err := a.holds(t.Context()); holds || err != nil {
			t.Errorf("after the Lease was given up the holder holds: %t, error %v", holds, err)
		}
	})
}
