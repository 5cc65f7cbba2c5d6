package status

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/annex-api/annex/aggregator/internal/catalog"
	"github.com/annex-api/annex/internal/printable"
)

const (
	// firstPeersTimeout bounds how long a new writer waits to hear of the others
	// before its first write.
	firstPeersTimeout = time.Second
	// maxNamed bounds the servers that a message names for one view.
	maxNamed = 5
	// maxServerName and maxReason bound what is taken over from Leases, in bytes.
	maxServerName, maxReason = 100, 64
	// maxReports bounds the Leases of other servers that are read, and maxViews the
	// APIServices in each: a server writes fewer in maxDissent.
	maxReports, maxViews = 100, 3_500
	// maxPause bounds the pause after the conditions were gone through, see
	// pace.AfterWork: whoever may write Leases can have that done all the time.
	maxPause = 250 * time.Millisecond
)

// peerReport is what another server published.
type peerReport struct {
	server      string
	views       map[string]view
	renewed     metav1.MicroTime
	renewalSeen time.Time // when this server learnt of the renewal: clocks may differ
	version     string
	failed      time.Time // when its removal last failed
}

// peerViews is what the other servers see.
type peerViews struct {
	mu      sync.Mutex
	reports map[string]*peerReport // by the name of the server's Lease
	changed func()                 // must not block
}

func newPeerViews(changed func()) *peerViews {
	return &peerViews{reports: map[string]*peerReport{}, changed: changed}
}

// learn takes over a Lease, if it is one that a server writes and not one too many:
// anybody may have written it.
func (p *peerViews) learn(now time.Time, lease *coordinationv1.Lease) {
	if !strings.HasPrefix(lease.Name, dissentPrefix) {
		return
	}
	r := &peerReport{server: lease.Annotations[serverAnnotation], renewalSeen: now, version: lease.ResourceVersion}
	if lease.Spec.RenewTime != nil {
		r.renewed = *lease.Spec.RenewTime
	}
	encoded := lease.Annotations[dissentAnnotation]
	if len(encoded) > maxDissent || json.Unmarshal([]byte(encoded), &r.views) != nil || len(r.views) > maxViews || !fit(r.server, maxServerName) {
		r.views = nil // whatever it is, it is no server's word
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.reports[lease.Name]
	if old == nil && len(p.reports) >= maxReports {
		return // it is learnt of again, and may find a place then
	}
	if old != nil && old.renewed.Equal(&r.renewed) {
		r.renewalSeen, r.failed = old.renewalSeen, old.failed
	}
	p.reports[lease.Name] = r
	if old == nil || old.server != r.server || !maps.Equal(old.views, r.views) {
		p.changed()
	}
}

func (p *peerViews) forget(lease string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reports[lease] != nil {
		delete(p.reports, lease)
		p.changed()
	}
}

// any says whether another server has told of anything.
func (p *peerViews) any() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.reports) > 0
}

func (p *peerViews) forgetAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.reports)
}

// expired lists the Leases to remove now, with their versions: those that were not
// renewed in time. It says how long until there may be more of them; zero for never.
func (p *peerViews) expired(now time.Time) (over map[string]string, wait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, r := range p.reports {
		due := r.renewalSeen.Add(dissentLifetime)
		if again := r.failed.Add(dissentLifetime); again.After(due) {
			due = again
		}
		if left := due.Sub(now); left > 0 {
			wait = shorterWait(wait, left)
			continue
		}
		if over == nil {
			over = map[string]string{}
		}
		over[name] = r.version
	}
	return over, wait
}

// noteFailedRemoval has the removal of a Lease not tried again for dissentLifetime.
func (p *peerViews) noteFailedRemoval(lease string, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r := p.reports[lease]; r != nil {
		r.failed = now
	}
}

// others says in a sentence's end who sees an APIService otherwise than own;
// empty when nobody does.
func (p *peerViews) others(now time.Time, name string, own catalog.Status) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.reports) == 0 {
		return ""
	}
	servers := map[view][]string{}
	for _, r := range p.reports {
		if v, differs := r.dissents(now, name, own); differs {
			servers[v] = append(servers[v], r.server)
		}
	}
	var parts []string
	for v, names := range servers {
		slices.Sort(names)
		if more := len(names) - maxNamed; more > 0 {
			names = append(names[:maxNamed], fmt.Sprintf("%d more", more))
		}
		part := statusWord(v.Status) + " to " + strings.Join(names, ", ")
		if v.Reason != "" {
			part += ": " + v.Reason
		}
		parts = append(parts, part)
	}
	slices.Sort(parts)
	if len(parts) > maxNamed {
		parts = parts[:maxNamed]
	}
	return strings.Join(parts, "; ")
}

func statusWord(s catalog.Status) string {
	switch s {
	case apiregistrationv1.ConditionTrue:
		return "available"
	case apiregistrationv1.ConditionFalse:
		return "unavailable"
	}
	return "unknown"
}

// fit says whether text is fit to stand between semicolons.
func fit(text string, most int) bool {
	return printable.Line(text, most) == text && !strings.Contains(text, ";")
}

// followPeers follows the Leases of the other servers until the returned func is
// called, which waits for the end of it.
func (w *Writer) followPeers(ctx context.Context) (stop func()) {
	if w.config.Leases == nil {
		return func() {}
	}
	leases, own := w.config.Leases.Leases(w.config.Namespace), w.dissentName()
	lists := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.LabelSelector = dissentLabel
			return leases.List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.LabelSelector = dissentLabel
			return leases.Watch(ctx, o)
		},
	}
	learn := func(o any) {
		if lease, ok := o.(*coordinationv1.Lease); ok && lease.Name != own {
			w.peers.learn(time.Now(), lease)
		}
	}
	_, informer := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: cache.ToListWatcherWithWatchListSemantics(lists, w.config.Leases),
		ObjectType:    &coordinationv1.Lease{},
		Transform:     reportOnly,
		ResyncPeriod:  dissentLifetime, // for those that were one too many: there may be a place now
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc:    learn,
			UpdateFunc: func(_, o any) { learn(o) },
			DeleteFunc: func(o any) {
				if name, err := cache.DeletionHandlingObjectToName(o); err == nil {
					w.peers.forget(name.Name)
				}
			},
		},
	})
	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	group.Go(func() { informer.RunWithContext(ctx) })
	first, done := context.WithTimeout(ctx, firstPeersTimeout)
	defer done()
	_ = cache.WaitForCacheSync(first.Done(), informer.HasSynced) // what comes later is written later
	return func() {
		cancel()
		group.Wait()
		w.peers.forgetAll()
	}
}

// reportOnly leaves of a Lease what learn needs.
func reportOnly(o any) (any, error) {
	lease, ok := o.(*coordinationv1.Lease)
	if !ok {
		return o, nil
	}
	kept := &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Namespace: lease.Namespace, Name: lease.Name, ResourceVersion: lease.ResourceVersion},
		Spec:       coordinationv1.LeaseSpec{RenewTime: lease.Spec.RenewTime},
	}
	if sees := lease.Annotations[dissentAnnotation]; strings.HasPrefix(lease.Name, dissentPrefix) && len(sees) <= maxDissent {
		kept.Annotations = map[string]string{serverAnnotation: lease.Annotations[serverAnnotation], dissentAnnotation: sees}
	}
	return kept, nil
}

// deleteExpired removes the Leases of servers that are gone. Done is false where this
// server may not; wait is how long until there may be more to remove, zero for never.
func (w *Writer) deleteExpired(ctx context.Context, mayWrite func() error) (done bool, wait time.Duration) {
	over, wait := w.peers.expired(time.Now())
	for name, version := range over {
		if err := mayWrite(); err != nil {
			return false, 0
		}
		bounded, cancel := context.WithTimeout(ctx, dissentWriteTimeout)
		err := w.config.Leases.Leases(w.config.Namespace).Delete(bounded, name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{ResourceVersion: &version}})
		cancel()
		switch {
		case err == nil, apierrors.IsNotFound(err):
			w.peers.forget(name)
		case apierrors.IsConflict(err): // it was renewed after all: the watch brings it
			wait = shorterWait(wait, dissentLifetime)
		default:
			klog.FromContext(ctx).V(2).Info("Removing what a server saw that is gone failed", "lease", name, "err", err)
			w.peers.noteFailedRemoval(name, time.Now())
			wait = shorterWait(wait, dissentLifetime)
		}
	}
	return true, wait
}

// withPeerViews is a verdict with what the other servers see, where that has differed for
// dissentAfter.
func (w *Writer) withPeerViews(name string, v catalog.Verdict) catalog.Verdict {
	now := time.Now()
	if !w.own.lasts(now, name, v.Status) {
		return v
	}
	if others := w.peers.others(now, name, v.Status); others != "" {
		v.Message += " (seen by " + w.serverName() + "; " + others + ")"
	}
	return v
}

func (w *Writer) serverName() string {
	if w.config.Server != "" {
		return w.config.Server
	}
	return w.config.Identity
}
