package status

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/client-go/util/retry"
	"k8s.io/klog/v2"
)

// The times of the Lease. No request waits for a condition, so they are chosen to
// be cheap: the holder writes the Lease every retryPeriod, as often as
// kube-apiserver renews the one of its own identity. A server that waits reads it
// every retryPeriod to 2.2 times that, as client-go spreads the looks.
//
// A holder that cannot renew the Lease stops retryPeriod + renewDeadline after it
// last did. Others begin leaseDuration after they saw that renewal, and no sooner.
// The 5 s between are for a renewal whose answer came late.
const (
	leaseDuration = 30 * time.Second
	renewDeadline = 15 * time.Second
	retryPeriod   = 10 * time.Second

	// releaseTimeout bounds how long a server that stops takes to give up the Lease.
	releaseTimeout = 2 * time.Second
)

var errLeaseInDoubt = errors.New("this server may hold the Lease no more")

// election makes this server stand for the Lease whose holder writes conditions.
type election struct {
	lock    resourcelock.Interface
	elector *leaderelection.LeaderElector
	terms   chan context.Context // each ends with its term
}

func newElection(config Config) (*election, error) {
	e := &election{
		lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: config.Namespace, Name: config.Name},
			Client:     config.Leases,
			LockConfig: resourcelock.ResourceLockConfig{Identity: config.Identity},
		},
		terms: make(chan context.Context),
	}
	var err error
	e.elector, err = leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Name:          config.Name,
		Lock:          e.lock,
		LeaseDuration: leaseDuration,
		RenewDeadline: renewDeadline,
		RetryPeriod:   retryPeriod,
		// ReleaseOnCancel is left out: after a hang it gives up what may be the Lease of
		// another server by now. See release.
		Callbacks: leaderelection.LeaderCallbacks{
			// Called in a goroutine of the elector's, which lasts no longer than the term.
			OnStartedLeading: func(term context.Context) {
				select {
				case e.terms <- term:
				case <-term.Done():
				}
			},
			OnStoppedLeading: func() {},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("preparing the election of the status writer: %w", err)
	}
	return e, nil
}

// stand stands for the Lease until ctx ends, and calls lead in each term, with the
// term's context. The Lease is given up after lead has returned, so that nothing of
// it reaches the API in another server's term.
func (e *election) stand(ctx context.Context, lead func(context.Context)) {
	var electing sync.WaitGroup
	electing.Go(func() {
		for ctx.Err() == nil {
			e.elector.Run(ctx) // returns when the Lease is lost
		}
	})
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case term := <-e.terms:
			lead(term)
		}
	}
	electing.Wait()
	e.release(context.WithoutCancel(ctx))
}

// release gives up the Lease if this server holds it, so that another one takes
// over at its next look.
func (e *election) release(ctx context.Context) {
	if !e.elector.IsLeader() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, releaseTimeout)
	defer cancel()
	// A conflict is a renewal that was under way.
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		held, _, err := e.lock.Get(ctx)
		if err != nil || held.HolderIdentity != e.lock.Identity() {
			return err
		}
		now := metav1.Now()
		return e.lock.Update(ctx, resourcelock.LeaderElectionRecord{
			LeaderTransitions: held.LeaderTransitions, LeaseDurationSeconds: 1, AcquireTime: now, RenewTime: now,
		})
	})
	if err != nil {
		klog.FromContext(ctx).V(2).Info("Giving up the Lease failed, it ends by itself", "lease", e.lock.Describe(), "err", err)
	}
}

// check returns an error unless this server holds the Lease as far as it knows; it
// asks nobody. A term may last longer than that: the elector notices its end late
// where it or the process stood still, and where another server took the Lease it
// tries to renew it until renewDeadline.
func (e *election) check() error {
	if !e.elector.IsLeader() || e.elector.Check(retryPeriod+renewDeadline-leaseDuration) != nil {
		return errLeaseInDoubt
	}
	return nil
}
