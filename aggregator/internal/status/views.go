package status

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"

	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"k8s.io/kube-aggregator/pkg/apis/apiregistration/v1/helper"

	"github.com/annex-api/annex/aggregator/internal/catalog"
)

// maxPeerViews bounds the servers whose view of an APIService is told.
const maxPeerViews = 20

// PeerView is what another server sees of an APIService.
type PeerView struct {
	Server string
	Status catalog.Status
	Reason string
}

// Dissent lists what other servers see of an APIService otherwise than this one, as far as
// this one knows: the one that writes the conditions knows of all others, and they know of
// that one. It must have differed for dissentAfter: a fault, or its end, does not reach all
// servers in the same moment. Who does not know how an APIService fares does not dissent.
func (w *Writer) Dissent(a *catalog.APIService) []PeerView {
	if !known(a.Verdict.Status) || a.Invalid != "" {
		return nil
	}
	if w.Term() != 0 {
		if now := time.Now(); w.own.lasts(now, a.Name, a.Verdict.Status) {
			return w.peers.dissent(now, a.Name, a.Verdict.Status)
		}
		return nil
	}
	election, differs := w.election.Load(), w.differs.Load()
	if election == nil || differs == nil || a.Object == nil {
		return nil
	}
	if own, lasts := (*differs)[a.Name]; !lasts || own.Status != a.Verdict.Status {
		return nil
	}
	holder := election.elector.GetLeader()
	stored := helper.GetAPIServiceConditionByType(a.Object, apiregistrationv1.Available)
	if stored == nil || !known(stored.Status) || stored.Status == a.Verdict.Status || holder == "" || holder == w.config.Identity || !fit(holder, maxServerName) {
		return nil
	}
	return []PeerView{{holder, stored.Status, stored.Reason}}
}

// known says whether a status says how an APIService fares.
func known(s catalog.Status) bool {
	return s == apiregistrationv1.ConditionTrue || s == apiregistrationv1.ConditionFalse
}

// dissent lists who sees an APIService otherwise than own, by name.
func (p *peerViews) dissent(now time.Time, name string, own catalog.Status) []PeerView {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []PeerView
	for _, r := range p.reports {
		if v, differs := r.dissents(now, name, own); differs && known(v.Status) {
			all = append(all, PeerView{r.server, v.Status, v.Reason})
		}
	}
	slices.SortFunc(all, func(a, b PeerView) int {
		return cmp.Or(strings.Compare(a.Server, b.Server), strings.Compare(string(a.Status), string(b.Status)))
	})
	return all[:min(len(all), maxPeerViews)]
}

// dissents says what a server sees of an APIService, and whether it tells otherwise than
// own.
func (r *peerReport) dissents(now time.Time, name string, own catalog.Status) (v view, differs bool) {
	v, ok := r.views[name]
	if !ok || v.Status == own || now.Sub(r.renewalSeen) >= dissentLifetime {
		return view{}, false
	}
	if !fit(v.Reason, maxReason) || v.Status == apiregistrationv1.ConditionTrue {
		v.Reason = ""
	}
	return v, true
}

// ownViews is since when this server has seen APIServices as it does.
type ownViews struct {
	mu    sync.Mutex
	since map[string]difference
}

// update takes over the verdicts of a snapshot.
func (o *ownViews) update(now time.Time, s *catalog.Snapshot) {
	o.mu.Lock()
	defer o.mu.Unlock()
	before := o.since
	o.since = make(map[string]difference, len(before))
	for _, a := range s.APIServices() {
		if a.Object == nil || a.Invalid != "" || a.Verdict.Status == "" {
			continue
		}
		d := before[a.Name]
		if d.status != a.Verdict.Status {
			d = difference{a.Verdict.Status, now}
		}
		o.since[a.Name] = d
	}
}

// lasts says whether this server has seen an APIService so for dissentAfter.
func (o *ownViews) lasts(now time.Time, name string, status catalog.Status) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	d := o.since[name]
	return d.status == status && now.Sub(d.since) >= dissentAfter
}

// next is how long until one more of them lasts; zero for never.
func (o *ownViews) next(now time.Time) (wait time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, d := range o.since {
		if left := dissentAfter - now.Sub(d.since); left > 0 {
			wait = shorterWait(wait, left)
		}
	}
	return wait
}
