package status

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// writes counts what reaches a Lease.
type writes struct {
	resourcelock.Interface
	n   int
	err error
}

func (w *writes) Create(context.Context, resourcelock.LeaderElectionRecord) error {
	w.n++
	return w.err
}

func (w *writes) Update(context.Context, resourcelock.LeaderElectionRecord) error {
	w.n++
	return w.err
}

func TestSparingLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lease := &writes{}
		lock := &sparingLock{Interface: lease}
		record := resourcelock.LeaderElectionRecord{HolderIdentity: "a", LeaseDurationSeconds: 8}
		update := func(want int, what string) {
			t.Helper()
			record.RenewTime = metav1.Now()
			if err := lock.Update(t.Context(), record); err != nil && lease.err == nil {
				t.Fatal(err)
			}
			if lease.n != want {
				t.Errorf("%s: %d writes, want %d", what, lease.n, want)
			}
		}
		if err := lock.Create(t.Context(), record); err != nil || lease.n != 1 {
			t.Fatalf("%v, %d writes", err, lease.n)
		}
		time.Sleep(retryPeriod)
		update(1, "a renewal too soon")
		time.Sleep(retryPeriod)
		update(2, "a renewal that is due")
		record.LeaderTransitions++
		update(3, "another term")
		lease.err = errors.New("conflict")
		time.Sleep(renewEvery)
		update(4, "a write that fails")
		lease.err = nil
		update(5, "after a write that failed")
		record.HolderIdentity = ""
		update(6, "the end of the term")
		update(7, "the end once more")
	})
}

// No two renewals are further apart than a Lease allows, and a writer that
// cannot renew stops before others may begin.
func TestLeaseTimes(t *testing.T) {
	if last := renewEvery + retryPeriod/2 + renewDeadline; last >= leaseDuration {
		t.Errorf("a writer goes on for %v after its last renewal, others begin after %v", last, leaseDuration)
	}
	synctest.Test(t, func(t *testing.T) {
		lease := &writes{}
		lock := &sparingLock{Interface: lease}
		record := resourcelock.LeaderElectionRecord{HolderIdentity: "a"}
		last := time.Now()
		for range 200 {
			before := lease.n
			record.RenewTime = metav1.Now()
			if err := lock.Update(t.Context(), record); err != nil {
				t.Fatal(err)
			}
			if lease.n > before {
				last = time.Now()
			}
			if age := time.Since(last); age >= renewEvery {
				t.Fatalf("the Lease was not renewed for %v", age)
			}
			time.Sleep(retryPeriod)
		}
	})
}
