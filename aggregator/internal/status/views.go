package status

import (
	"cmp"
	"slices"
	"strings"
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
// that one, by a condition that has differed for dissentAfter.
func (w *Writer) Dissent(a *catalog.APIService) []PeerView {
	if a.Verdict.Status == "" || a.Invalid != "" {
		return nil
	}
	if w.Term() != 0 {
		return w.peers.dissent(time.Now(), a.Name, a.Verdict.Status)
	}
	election, differs := w.election.Load(), w.differs.Load()
	if election == nil || differs == nil || a.Object == nil {
		return nil
	}
	if _, lasts := (*differs)[a.Name]; !lasts {
		return nil
	}
	holder := election.elector.GetLeader()
	stored := helper.GetAPIServiceConditionByType(a.Object, apiregistrationv1.Available)
	if stored == nil || stored.Status == a.Verdict.Status || holder == "" || holder == w.config.Identity || !printable(holder, maxServerName) {
		return nil
	}
	return []PeerView{{holder, stored.Status, stored.Reason}}
}

// dissent lists who sees an APIService otherwise than own, by name.
func (p *peerViews) dissent(now time.Time, name string, own catalog.Status) []PeerView {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []PeerView
	for _, r := range p.reports {
		if v, differs := r.dissents(now, name, own); differs {
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
	if !printable(v.Reason, maxReason) || v.Status == apiregistrationv1.ConditionTrue {
		v.Reason = ""
	}
	return v, true
}
