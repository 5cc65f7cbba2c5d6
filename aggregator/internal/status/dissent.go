package status

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"k8s.io/kube-aggregator/pkg/apis/apiregistration/v1/helper"

	"github.com/annex-api/annex/aggregator/internal/catalog"
	"github.com/annex-api/annex/aggregator/internal/pace"
)

const (
	dissentLabel      = "aggregation.annex.dev/dissent"
	dissentPrefix     = "annex-dissent-" // of the Leases' names
	serverAnnotation  = "aggregation.annex.dev/server"
	dissentAnnotation = "aggregation.annex.dev/sees"

	// dissentAfter is how long a server sees an APIService otherwise than the
	// condition says before it publishes that: most faults reach all servers
	// within it.
	dissentAfter = 3 * time.Second
	// dissentPause is the least time between two changes of what is published.
	dissentPause = 5 * time.Second
	// So many changes, and so many bytes of them, are published at once, and as many
	// again in each period.
	dissentWrites = 20
	dissentBytes  = 1 << 20
	dissentPeriod = 5 * time.Minute
	// dissentRenewal is how often a dissent that lasts is renewed, and dissentLifetime
	// how long one counts that is not.
	dissentRenewal  = 15 * time.Second
	dissentLifetime = 45 * time.Second
	// dissentWriteTimeout bounds one write.
	dissentWriteTimeout = 2 * time.Second
	// maxDissent bounds what is published, in bytes: an object's annotations may
	// have 256 KiB.
	maxDissent = 128 << 10
)

// view is how a server sees an APIService, in short: what it holds of an
// extension server in detail changes too often.
type view struct {
	Status catalog.Status `json:"status"`
	Reason string         `json:"reason,omitempty"`
}

// differences remembers since when this server sees APIServices otherwise than
// their conditions say.
type differences map[string]difference

type difference struct {
	status catalog.Status
	since  time.Time
}

// update compares verdicts with conditions. It returns what has differed for
// dissentAfter, and how long until there may be more; zero for never.
func (d differences) update(now time.Time, s *catalog.Snapshot) (views map[string]view, wait time.Duration) {
	views = map[string]view{}
	differs := map[string]bool{}
	if s != nil {
		for _, a := range s.APIServices() {
			if a.Object == nil || a.Invalid != "" || a.Verdict.Status == "" {
				continue
			}
			stored := helper.GetAPIServiceConditionByType(a.Object, apiregistrationv1.Available)
			if stored == nil || stored.Status == a.Verdict.Status {
				continue
			}
			differs[a.Name] = true
			if d[a.Name].status != a.Verdict.Status {
				d[a.Name] = difference{a.Verdict.Status, now}
			}
			if left := dissentAfter - now.Sub(d[a.Name].since); left > 0 {
				wait = shorterWait(wait, left)
				continue
			}
			views[a.Name] = view{a.Verdict.Status, a.Verdict.Reason}
		}
	}
	for name := range d {
		if !differs[name] {
			delete(d, name)
		}
	}
	return views, wait
}

// shorterWait is the shorter of two waits, where zero is none.
func shorterWait(a, b time.Duration) time.Duration {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}

// publication is the Lease by which a server tells the writer where it sees
// otherwise. It exists only while there is such a thing.
type publication struct {
	views   map[string]view
	written time.Time
	unsure  bool // what is stored may be another
	changes pace.Writes
}

func newDissentBounds() pace.Writes {
	return pace.NewWrites(dissentWrites, dissentBytes, dissentPeriod)
}

// next says what to do about the Lease: change it, renew it, or nothing, and
// how long until there may be more to do; zero for never.
func (p *publication) next(now time.Time, views map[string]view) (change, renew bool, wait time.Duration) {
	if p.unsure || !maps.Equal(p.views, views) {
		if left := max(dissentPause-now.Sub(p.written), p.changes.Wait(now)); left > 0 {
			return false, false, left
		}
		return true, false, 0
	}
	if len(views) == 0 {
		return false, false, 0
	}
	if left := dissentRenewal - now.Sub(p.written); left > 0 {
		return false, false, left
	}
	return false, true, 0
}

// dissent publishes where this server sees otherwise than the conditions say,
// while another one writes them, until ctx ends. Nothing is written while all
// servers agree.
func (w *Writer) dissent(ctx context.Context) {
	d := differences{}
	p := publication{unsure: true, changes: newDissentBounds()} // an earlier life may have left a Lease
	timer := time.NewTimer(0)
	defer timer.Stop()
	var lasting time.Time // when one more of this server's own views lasts; zero for never
	for {
		select {
		case <-ctx.Done():
			if p.unsure || len(p.views) > 0 {
				w.withdraw(context.WithoutCancel(ctx), &p)
			}
			return
		case <-w.wakeDissent:
		case <-timer.C:
		}
		now := time.Now()
		views, wait := d.update(now, w.snapshot.Load())
		if before := w.differs.Swap(&views); before == nil || !maps.Equal(*before, views) {
			w.config.PeersChanged()
		}
		if w.Term() != 0 {
			views, wait = nil, w.own.next(now)
			if !lasting.IsZero() && !now.Before(lasting) && w.peers.any() {
				wake(w.wakeWriting) // what others see counts from now on
				w.config.PeersChanged()
			}
			if lasting = (time.Time{}); wait > 0 {
				lasting = now.Add(wait)
			}
		}
		change, renew, later := p.next(now, views)
		if change || renew {
			w.publish(ctx, &p, views, change)
			_, _, later = p.next(time.Now(), views)
		}
		timer.Stop()
		if wait = shorterWait(wait, later); wait > 0 {
			timer.Reset(wait)
		}
	}
}

func (w *Writer) publish(ctx context.Context, p *publication, views map[string]view, change bool) {
	var err error
	switch {
	case change && len(views) == 0:
		w.withdraw(ctx, p)
		return
	case change:
		var size int
		size, err = w.putDissent(ctx, views)
		p.changes.Spend(time.Now(), size)
	default:
		if err = w.patchDissent(ctx, map[string]any{"spec": map[string]any{"renewTime": microNow()}}); apierrors.IsNotFound(err) {
			_, err = w.putDissent(ctx, views)
		}
	}
	w.noteStored(ctx, p, views, err)
}

func (w *Writer) withdraw(ctx context.Context, p *publication) {
	bounded, cancel := context.WithTimeout(ctx, dissentWriteTimeout)
	defer cancel()
	err := w.config.Leases.Leases(w.config.Namespace).Delete(bounded, w.dissentName(), metav1.DeleteOptions{})
	p.changes.Spend(time.Now(), 0)
	if apierrors.IsNotFound(err) {
		err = nil
	}
	w.noteStored(ctx, p, nil, err)
}

// noteStored takes note of what is stored now.
func (w *Writer) noteStored(ctx context.Context, p *publication, views map[string]view, err error) {
	p.views, p.written, p.unsure = views, time.Now(), err != nil
	if err != nil && ctx.Err() == nil {
		klog.FromContext(ctx).V(2).Info("Telling the status writer what this server sees failed", "err", err)
	}
}

// dissentName is that of this server's own Lease.
func (w *Writer) dissentName() string {
	sum := sha256.Sum256([]byte(w.config.Identity))
	return dissentPrefix + hex.EncodeToString(sum[:8])
}

func microNow() metav1.MicroTime { return metav1.NewMicroTime(time.Now()) }

// putDissent writes the Lease, and returns how many bytes of views it holds.
func (w *Writer) putDissent(ctx context.Context, views map[string]view) (size int, err error) {
	encoded, err := encodeViews(views)
	if err != nil {
		return 0, err
	}
	labels := map[string]string{dissentLabel: "true"}
	annotations := map[string]string{serverAnnotation: w.serverName(), dissentAnnotation: encoded}
	now, seconds := microNow(), int32(dissentLifetime/time.Second)
	err = w.patchDissent(ctx, map[string]any{
		"metadata": map[string]any{"labels": labels, "annotations": annotations},
		"spec":     map[string]any{"renewTime": now, "holderIdentity": w.config.Identity},
	})
	if !apierrors.IsNotFound(err) {
		return len(encoded), err
	}
	bounded, cancel := context.WithTimeout(ctx, dissentWriteTimeout)
	defer cancel()
	_, err = w.config.Leases.Leases(w.config.Namespace).Create(bounded, &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Name: w.dissentName(), Labels: labels, Annotations: annotations},
		Spec:       coordinationv1.LeaseSpec{HolderIdentity: &w.config.Identity, LeaseDurationSeconds: &seconds, RenewTime: &now},
	}, metav1.CreateOptions{FieldManager: FieldManager})
	if err != nil {
		return len(encoded), fmt.Errorf("creating the Lease %s: %w", w.dissentName(), err)
	}
	return len(encoded), nil
}

// patchDissent changes the Lease; an error of the API server is returned as it is.
func (w *Writer) patchDissent(ctx context.Context, patch map[string]any) error {
	data, err := json.Marshal(patch)
	if err != nil {
		return fmt.Errorf("encoding what this server sees: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, dissentWriteTimeout)
	defer cancel()
	_, err = w.config.Leases.Leases(w.config.Namespace).Patch(ctx, w.dissentName(), types.MergePatchType, data, metav1.PatchOptions{FieldManager: FieldManager})
	return err
}

// encodeViews leaves out the last names where all of them would be too long.
func encodeViews(views map[string]view) (string, error) {
	kept, size := map[string]view{}, len("{}")
	for _, name := range slices.Sorted(maps.Keys(views)) {
		v := views[name]
		if size += len(name) + len(v.Reason) + len(`"":{"status":"Unknown","reason":""},`); size > maxDissent {
			break
		}
		kept[name] = v
	}
	data, err := json.Marshal(kept)
	if err != nil {
		return "", fmt.Errorf("encoding what this server sees: %w", err)
	}
	return string(data), nil
}
