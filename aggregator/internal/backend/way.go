package backend

import (
	"sync"

	"k8s.io/klog/v2"

	"github.com/annex-api/annex/aggregator/internal/backend/balance"
)

// Ways to a Service that has endpoints and a cluster IP.
const (
	undecided = iota
	toEndpoints
	toClusterIP
)

// way is how a Service was last found to be reached, by probes that passed.
type way struct {
	mu        sync.Mutex
	last      int
	clusterIP bool // its last probe passed
}

// probed takes note of a probe, and says whether the way is another by it.
func (w *way) probed(health []balance.Health, address string, passed bool) (now int, changed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	both, direct := false, false
	for _, h := range health {
		switch {
		case h.Fallback:
			both = true
			if h.Address == address {
				w.clusterIP = passed
			}
		case !h.Down && !h.Ejected:
			direct = true
		}
		if !h.Fallback && h.Address == address && passed {
			now = toEndpoints
		}
	}
	if !direct && w.clusterIP {
		now = toClusterIP
	}
	if !both || now == undecided || now == w.last {
		return w.last, false
	}
	w.last = now
	return now, true
}

// sayWay logs how the Service is reached when that has changed.
func (b *Backend) sayWay(address string, passed bool) {
	health := b.Health()
	now, changed := b.way.probed(health, address, passed)
	switch {
	case !changed:
	case now == toEndpoints:
		klog.InfoS("Requests for the Service go to its endpoints directly", "service", b.service.String(), "answered", address)
	case now == toClusterIP:
		klog.InfoS("Requests for the Service go to its cluster IP: no endpoint answers from here", "service", b.service.String(), "endpoints", len(health)-1)
	}
}
