// Package status reports verdicts: it is the only writer of the Available
// condition of APIServices.
package status

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	coordinationclient "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/klog/v2"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"k8s.io/kube-aggregator/pkg/apis/apiregistration/v1/helper"
	apiregistrationclient "k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset/typed/apiregistration/v1"

	"github.com/annex-api/annex/aggregator/internal/catalog"
	"github.com/annex-api/annex/aggregator/internal/pace"
)

const (
	// retryWrite is the pause after a write that failed for another reason
	// than a conflict.
	retryWrite = time.Second
	// conditionWriteTimeout bounds one write of a condition.
	conditionWriteTimeout = 5 * time.Second

	// FieldManager owns the conditions that are written.
	FieldManager = "annex-aggregation"
)

// Config of a Writer.
type Config struct {
	Client apiregistrationclient.APIServicesGetter
	// Leases elects the one writer among several servers, and tells it where the
	// others see otherwise. Nil means that there is only this one. All verbs but
	// deletecollection are used.
	Leases coordinationclient.LeasesGetter
	// Namespace and Name of the Lease; required with Leases.
	Namespace, Name string
	// Identity of this server in the Lease; unique among the servers and the
	// same after a restart.
	Identity string
	// Server is what messages call this server; empty means Identity.
	Server string
	// Ready blocks until Leases can be written, or returns its context's error;
	// nil means that they can.
	Ready func(context.Context) error
	// Observe is called after a condition was changed; it may be nil.
	Observe func(before, after *apiregistrationv1.APIService)
	// PeersChanged is called when Dissent may be another, and must not block; it may be
	// nil.
	PeersChanged func()
}

// Writer brings stored conditions in line with verdicts while it holds the
// Lease.
type Writer struct {
	config   Config
	snapshot atomic.Pointer[catalog.Snapshot]
	term     atomic.Int64 // see Term
	election atomic.Pointer[election]
	differs  atomic.Pointer[map[string]view] // what has differed from the conditions for dissentAfter
	own      ownViews
	peers    *peerViews
	bounds   conditionBudget // of one APIService, not spent
	// One slot each: what wakes the loop that writes conditions, and the one that
	// publishes dissent.
	wakeWriting, wakeDissent chan struct{}

	// Of the goroutine that writes.
	terms      int64
	lastWrites map[types.UID]lastWrite
	history    map[types.UID]*history
}

// lastWrite is what was written last, or refused as outdated, over which version of
// an object. A cache that lags behind does not cause the same write twice.
type lastWrite struct {
	resourceVersion string
	verdict         catalog.Verdict
}

// New returns a Writer.
func New(config Config) *Writer {
	wakeWriting := make(chan struct{}, 1)
	if config.PeersChanged == nil {
		config.PeersChanged = func() {}
	}
	return &Writer{
		config:      config,
		wakeWriting: wakeWriting, wakeDissent: make(chan struct{}, 1),
		peers: newPeerViews(func() {
			wake(wakeWriting)
			config.PeersChanged()
		}),
		bounds:     newConditionBudget(),
		lastWrites: map[types.UID]lastWrite{}, history: map[types.UID]*history{},
	}
}

// Sync takes over the verdicts of a snapshot.
func (w *Writer) Sync(s *catalog.Snapshot) {
	w.own.update(time.Now(), s)
	w.snapshot.Store(s)
	wake(w.wakeWriting)
	wake(w.wakeDissent)
}

func wake(slot chan<- struct{}) {
	select {
	case slot <- struct{}{}:
	default:
	}
}

// Run writes until ctx ends, whenever this server is the one to write.
func (w *Writer) Run(ctx context.Context) error {
	if w.config.Leases == nil {
		w.write(ctx, func() error { return nil })
		return ctx.Err()
	}
	election, err := newElection(w.config)
	if err != nil {
		return err
	}
	w.election.Store(election)
	if w.config.Ready != nil {
		if err := w.config.Ready(ctx); err != nil {
			return fmt.Errorf("waiting for the Lease's namespace: %w", err)
		}
	}
	var dissenting sync.WaitGroup
	dissenting.Go(func() { w.dissent(ctx) })
	election.stand(ctx, func(term context.Context) { w.write(term, election.check) })
	dissenting.Wait()
	return ctx.Err()
}

// Term is the number of the term in which this server is the one that writes, from 1
// on; zero while it is not.
func (w *Writer) Term() int64 { return w.term.Load() }

// write keeps conditions in line until ctx ends. It asks mayWrite before each
// write.
func (w *Writer) write(ctx context.Context, mayWrite func() error) {
	w.terms++
	w.term.Store(w.terms)
	wake(w.wakeDissent)
	defer wake(w.wakeDissent)
	defer w.term.Store(0)
	defer w.followPeers(ctx)()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		began := time.Now()
		done, wait := w.reconcile(ctx, mayWrite)
		if !pace.Wait(ctx, pace.AfterWork(time.Since(began), 0, maxPause), nil) {
			return
		}
		if !done {
			select {
			case <-ctx.Done():
			case <-time.After(retryWrite):
			}
			continue
		}
		timer.Stop()
		if wait > 0 {
			timer.Reset(wait)
		}
		select {
		case <-ctx.Done():
		case <-w.wakeWriting:
		case <-timer.C:
		}
	}
}

// reconcile writes what differs, and returns how long until there may be more to
// write; zero for never. Done is false where a write failed.
func (w *Writer) reconcile(ctx context.Context, mayWrite func() error) (done bool, wait time.Duration) {
	s := w.snapshot.Load()
	if s == nil {
		return true, 0
	}
	done, wait = w.deleteExpired(ctx, mayWrite)
	alive := map[types.UID]bool{}
	for _, a := range s.APIServices() {
		if a.Object == nil {
			continue
		}
		alive[a.Object.UID] = true
		held, err := w.writeCondition(ctx, mayWrite, a)
		wait = shorterWait(wait, held)
		if err != nil {
			if ctx.Err() != nil {
				return true, 0
			}
			if errors.Is(err, errLeaseInDoubt) {
				klog.FromContext(ctx).V(2).Info("Conditions are not written", "err", err)
				return false, 0
			}
			w.logFailure(ctx, a, err)
			done = false
		}
	}
	for uid := range w.lastWrites {
		if !alive[uid] {
			delete(w.lastWrites, uid)
		}
	}
	for uid := range w.history {
		if !alive[uid] {
			delete(w.history, uid)
		}
	}
	return done, wait
}

// logFailure logs as an error the first of the writes of a condition that fail in a row.
func (w *Writer) logFailure(ctx context.Context, a *catalog.APIService, err error) {
	logger, h := klog.FromContext(ctx).WithValues("apiService", a.Name), w.history[a.Object.UID]
	if h.failing {
		logger.V(2).Info("Writing the Available condition failed again", "err", err)
		return
	}
	h.failing = true
	logger.Error(err, "Writing the Available condition failed, it is tried again")
}

// writeCondition writes the condition of an APIService where it differs, or returns how long
// that has to wait.
func (w *Writer) writeCondition(ctx context.Context, mayWrite func() error, a *catalog.APIService) (wait time.Duration, err error) {
	if a.Verdict.Status == "" || a.Invalid != "" {
		return 0, nil
	}
	verdict := w.withPeerViews(a.Name, a.Condition())
	stored := helper.GetAPIServiceConditionByType(a.Object, apiregistrationv1.Available)
	if stored != nil && stored.Status == verdict.Status && stored.Reason == verdict.Reason && stored.Message == verdict.Message {
		if h := w.history[a.Object.UID]; h != nil {
			h.failing = false
		}
		return 0, nil
	}
	write := lastWrite{a.Object.ResourceVersion, verdict}
	if w.lastWrites[a.Object.UID] == write {
		return 0, nil // the cache has not caught up with that write
	}
	h := w.history[a.Object.UID]
	if h == nil {
		h = &history{writes: w.bounds}
		w.history[a.Object.UID] = h
	}
	up := a.Verdict.Status == apiregistrationv1.ConditionTrue
	statusChanges := stored != nil && stored.Status != a.Verdict.Status
	messageOnly := stored != nil && !statusChanges
	if wait := max(h.hold(time.Now(), up, statusChanges), h.writes.wait(time.Now(), messageOnly)); wait > 0 {
		return wait, nil
	}
	if err := mayWrite(); err != nil {
		return 0, err
	}
	after := a.Object.DeepCopy()
	helper.SetAPIServiceCondition(after, apiregistrationv1.APIServiceCondition{
		Type:               apiregistrationv1.Available,
		Status:             verdict.Status,
		Reason:             verdict.Reason,
		Message:            verdict.Message,
		LastTransitionTime: metav1.Now(),
	})
	h.writes.spend(time.Now(), after.Size(), messageOnly) // a failed one costs as much, and may have been stored
	bounded, cancel := context.WithTimeout(ctx, conditionWriteTimeout)
	defer cancel()
	_, err = w.config.Client.APIServices().UpdateStatus(bounded, after, metav1.UpdateOptions{FieldManager: FieldManager})
	switch {
	case err == nil, apierrors.IsNotFound(err), apierrors.IsConflict(err):
		w.lastWrites[a.Object.UID] = write // the watch brings what is stored now
	default:
		return 0, err
	}
	h.failing = false
	if err == nil {
		if statusChanges && !up {
			h.recordFall(time.Now())
		}
		klog.FromContext(ctx).V(4).Info("The Available condition was written", "apiService", a.Name,
			"status", a.Verdict.Status, "reason", verdict.Reason, "message", verdict.Message, "seenBy", w.config.Identity)
		if w.config.Observe != nil {
			w.config.Observe(a.Object, after)
		}
	}
	return 0, nil
}
