package kubeapiserver

import (
	"net/http"
	"sync/atomic"

	"k8s.io/apiserver/pkg/endpoints/discovery/aggregated"
)

// peerDiscovery serves this server's discovery merged with that of its peers. The
// handler of k8s.io/apiserver (pkg/endpoints/discovery/aggregated) keeps a document
// that it was making while a group changed, which lacks the change, until something
// changes again. kube-apiserver tells it of a change every minute; the layer tells only
// of those that are some. Here such a document is forgotten by whoever made it.
type peerDiscovery struct {
	aggregated.PeerAggregatedResourceManager
	changes atomic.Uint64
}

func newPeerDiscovery(server string, local aggregated.ResourceManager, peers aggregated.PeerDiscoveryProvider) *peerDiscovery {
	d := &peerDiscovery{PeerAggregatedResourceManager: aggregated.NewPeerAggregatedDiscoveryHandler(server, local, peers, "apis")}
	local.AddInvalidationCallback(d.InvalidateCache) // in the place of the handler's own
	return d
}

// InvalidateCache implements aggregated.PeerAggregatedResourceManager.
func (d *peerDiscovery) InvalidateCache() {
	d.changes.Add(1)
	d.PeerAggregatedResourceManager.InvalidateCache()
}

// ServeHTTP implements http.Handler. It may end in a panic of the writer.
func (d *peerDiscovery) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	before := d.changes.Load()
	defer func() {
		if d.changes.Load() != before {
			d.PeerAggregatedResourceManager.InvalidateCache()
		}
	}()
	d.PeerAggregatedResourceManager.ServeHTTP(w, r)
}
