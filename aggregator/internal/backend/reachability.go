package backend

import (
	"sync"

	"k8s.io/klog/v2"

	"github.com/annex-api/annex/aggregator/internal/backend/balance"
)

// What reaches a Service that has endpoints and a cluster IP.
const (
	undecided = iota
	toEndpoints
	toClusterIP
)

// reachability is how a Service was last found to be reached, by probes that passed.
type reachability struct {
	mu        sync.Mutex
	last      int
	clusterIP bool // its last probe passed
}

// probed takes note of a probe. It returns how the Service is reached now, and
// whether the probe has changed that.
func (r *reachability) probed(health []balance.Health, address string, passed bool) (now int, changed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	both, direct := false, false
	for _, h := range health {
		switch {
		case h.Fallback:
			both = true
			if h.Address == address {
				r.clusterIP = passed
			}
		case !h.Down && !h.Ejected:
			direct = true
		}
		if !h.Fallback && h.Address == address && passed {
			now = toEndpoints
		}
	}
	if !direct && r.clusterIP {
		now = toClusterIP
	}
	if !both || now == undecided || now == r.last {
		return r.last, false
	}
	r.last = now
	return now, true
}

// logReachability logs how the Service is reached when that has changed.
func (b *Backend) logReachability(address string, passed bool) {
	health := b.Health()
	now, changed := b.reachability.probed(health, address, passed)
	switch {
	case !changed:
	case now == toEndpoints:
		klog.InfoS("Requests for the Service go to its endpoints directly", "service", b.service.String(), "answered", address)
	case now == toClusterIP:
		klog.InfoS("Requests for the Service go to its cluster IP: no endpoint answers from here", "service", b.service.String(), "endpoints", len(health)-1)
	}
}
