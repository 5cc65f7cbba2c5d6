package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordinationclient "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

const (
	// waitingAnnotation names a server that waits for the Lease. While nobody does
	// its holder need not renew it.
	waitingAnnotation = "aggregation.annex.dev/waiting"

	// callEvery is how often a holder that is waited for takes the annotation
	// away, to see whether that is still so, and callTime how long it gives those
	// who wait to say so again: they look every retryPeriod, or 1.2 times that
	// later.
	callEvery = time.Minute
	callTime  = 10 * time.Second
	// aloneEvery is how often a holder for whom nobody waits renews the Lease all
	// the same, for those who read it.
	aloneEvery = time.Minute
	// sureFor is how long after it renewed the Lease, or was seen to hold it while
	// nobody waits, a server writes conditions without looking: others may begin
	// leaseDuration after that.
	sureFor = leaseDuration - renewDeadline
)

// lease is the Lease by which servers elect the one that writes. It implements
// resourcelock.Interface, and writes less than an election asks for: renewals
// that come sooner than renewEvery after the last are left out, and all but one
// in aloneEvery while nobody waits. A server that waits says so in an
// annotation, of which the holder is told by follow. Where it cannot be told it
// looks every renewEvery. A renewal that is not due is answered when one may be:
// the election sleeps until then.
type lease struct {
	client          coordinationclient.LeaseInterface
	namespace, name string
	identity        string
	ended           <-chan struct{} // that of the election
	changed         chan struct{}   // a renewal may be due sooner; one slot

	mu        sync.Mutex
	following bool                  // this server is told of what happens to the Lease
	moved     bool                  // and it is another's, or gone
	stored    *coordinationv1.Lease // as last read or written
	// When the holder last renewed it, looked whether somebody waits, asked those
	// who wait to say so again, and was sure to hold it.
	renewed, looked, called, sure time.Time
}

// newLease returns the Lease for an election that ends with ctx.
func newLease(ctx context.Context, client coordinationclient.LeaseInterface, namespace, name, identity string) *lease {
	return &lease{client: client, namespace: namespace, name: name, identity: identity, ended: ctx.Done(), changed: make(chan struct{}, 1)}
}

// Identity implements resourcelock.Interface.
func (l *lease) Identity() string { return l.identity }

// Describe implements resourcelock.Interface.
func (l *lease) Describe() string { return l.namespace + "/" + l.name }

// RecordEvent implements resourcelock.Interface. Terms are logged by the election.
func (l *lease) RecordEvent(string) {}

// Get implements resourcelock.Interface. Who looks at a Lease that another
// server holds waits for it, and says so.
func (l *lease) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.read(ctx); err != nil {
		return nil, nil, err
	}
	if h := holder(l.stored); h != "" && h != l.identity && l.stored.Annotations[waitingAnnotation] == "" {
		waiting := l.stored.DeepCopy()
		metav1.SetMetaDataAnnotation(&waiting.ObjectMeta, waitingAnnotation, l.identity)
		if updated, err := l.client.Update(ctx, waiting, metav1.UpdateOptions{}); err == nil {
			l.stored = updated
		} // else the next look is another chance; a conflict shows that the holder lives
	}
	record := resourcelock.LeaseSpecToLeaderElectionRecord(&l.stored.Spec)
	raw, err := json.Marshal(*record)
	return record, raw, err
}

// Create implements resourcelock.Interface.
func (l *lease) Create(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	began := time.Now()
	created, err := l.client.Create(ctx, &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Namespace: l.namespace, Name: l.name},
		Spec:       resourcelock.LeaderElectionRecordToLeaseSpec(&record),
	}, metav1.CreateOptions{})
	if err == nil {
		l.written(began, created)
		l.called = began
	}
	return err
}

// Update implements resourcelock.Interface.
func (l *lease) Update(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stored == nil {
		return errors.New("the Lease has to be read before it is written")
	}
	switch h := holder(l.stored); {
	case record.HolderIdentity == "" && h != l.identity:
		return fmt.Errorf("the Lease is not given up: %q holds it", h)
	case h != "" && h != l.identity && record.LeaderTransitions != transitions(l.stored)+1:
		// The election takes itself for the holder, and has not seen the other one.
		return fmt.Errorf("the Lease is not renewed: %q holds it", h)
	}
	renewal := holder(l.stored) == l.identity && record.HolderIdentity == l.identity &&
		record.LeaderTransitions == transitions(l.stored)
	if renewal && !l.due(ctx) {
		// Before the election asks again it makes a pause of its own.
		l.rest(l.mayBeDue().Add(-retryPeriod))
		return nil
	}
	now := time.Now()
	err := l.write(ctx, record, !renewal || waitedFor(l.stored) && now.Sub(l.called) >= callEvery)
	if renewal && apierrors.IsConflict(err) {
		// Most likely somebody began to wait. A Lease that others hold stays theirs.
		if err := l.read(ctx); err != nil {
			return err
		}
		if holder(l.stored) == l.identity {
			err = l.write(ctx, record, false)
		}
	}
	return err
}

// due says whether the holder has to renew the Lease now.
func (l *lease) due(ctx context.Context) bool {
	// Half a period less: it is asked on a clock that wavers.
	const pause = renewEvery - retryPeriod/2
	now := time.Now()
	if l.moved {
		return true
	}
	if now.Sub(l.renewed) < pause || !l.following && now.Sub(l.looked) < pause {
		return false
	}
	if !l.alone(now) || now.Sub(l.renewed) >= aloneEvery-pause {
		return true
	}
	if l.following {
		return false
	}
	// What the cache does not show yet it shows the next time, which is soon enough.
	current, err := l.client.Get(ctx, l.name, metav1.GetOptions{ResourceVersion: "0"})
	if err != nil || holder(current) != l.identity {
		return true
	}
	if waitedFor(current) {
		l.stored, l.called = current, now
		return true
	}
	l.looked = now
	return false
}

// alone says whether nobody waits.
func (l *lease) alone(now time.Time) bool {
	return !waitedFor(l.stored) && now.Sub(l.called) >= callTime
}

// mayBeDue is when the holder has to renew the Lease, or to look, if nothing
// happens until then.
func (l *lease) mayBeDue() time.Time {
	switch {
	case !l.following:
		return l.looked.Add(renewEvery)
	case l.alone(time.Now()):
		return l.renewed.Add(aloneEvery)
	}
	return l.renewed.Add(renewEvery)
}

// rest waits until a moment, until a renewal may be due sooner, or until the
// election ends. It lets go of the mutex meanwhile.
func (l *lease) rest(until time.Time) {
	pause := time.Until(until)
	if pause <= 0 {
		return
	}
	l.mu.Unlock()
	defer l.mu.Lock()
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.changed:
	case <-l.ended:
	}
}

// lose has the election find out that the Lease is another's, or gone.
func (l *lease) lose() {
	l.moved, l.sure = true, time.Time{}
	l.wake()
}

// wake ends a rest, or the next one.
func (l *lease) wake() {
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

// write stores the record; with call, those who wait have to say so again.
func (l *lease) write(ctx context.Context, record resourcelock.LeaderElectionRecord, call bool) error {
	next := l.stored.DeepCopy()
	next.Spec = resourcelock.LeaderElectionRecordToLeaseSpec(&record)
	if call {
		delete(next.Annotations, waitingAnnotation)
	}
	began := time.Now()
	updated, err := l.client.Update(ctx, next, metav1.UpdateOptions{})
	if err != nil {
		return err
	}
	l.written(began, updated)
	if call {
		l.called = began
	}
	return nil
}

// written takes over what was stored after a moment.
func (l *lease) written(began time.Time, stored *coordinationv1.Lease) {
	l.stored, l.renewed, l.looked, l.sure, l.moved = stored, began, began, began, false
	if holder(stored) != l.identity { // given up
		l.sure = time.Time{}
	}
}

func (l *lease) read(ctx context.Context) error {
	current, err := l.client.Get(ctx, l.name, metav1.GetOptions{})
	if err == nil {
		l.stored = current
	}
	return err
}

// holds says whether this server may write: whether it was seen to hold the
// Lease so shortly ago that no other can have begun to. It looks where that is
// not known.
func (l *lease) holds(ctx context.Context) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	began := time.Now()
	if began.Sub(l.sure) < sureFor {
		return true, nil
	}
	current, err := l.client.Get(ctx, l.name, metav1.GetOptions{})
	if err != nil {
		return false, err
	}
	if holder(current) != l.identity {
		l.lose()
		return false, nil
	}
	if waitedFor(current) {
		// Who waits has counted from a time that is not known here: this one write, and
		// a renewal.
		l.stored, l.called = current, began
		l.wake()
		return true, nil
	}
	l.sure = began
	return true, nil
}

func holder(l *coordinationv1.Lease) string {
	if l.Spec.HolderIdentity == nil {
		return ""
	}
	return *l.Spec.HolderIdentity
}

func transitions(l *coordinationv1.Lease) int {
	return resourcelock.LeaseSpecToLeaderElectionRecord(&l.Spec).LeaderTransitions
}

func waitedFor(l *coordinationv1.Lease) bool { return l.Annotations[waitingAnnotation] != "" }
