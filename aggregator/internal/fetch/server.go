package fetch

import (
	"context"
	"slices"
	"sync/atomic"

	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/annex-api/annex/aggregator/internal/catalog"
)

// server is one extension server with the APIServices that lead to it.
type server struct {
	cancel     context.CancelFunc
	attempted  chan struct{} // closed after a first attempt at discovery
	probeEnded chan struct{} // a probe has ended; one slot

	// The first two start a download now. The third has the next one of OpenAPI come
	// no later than one Interval after the last. One slot each.
	discoverNow, openAPINow, refreshSoon chan struct{}

	// The Fetcher's lock guards these.
	members []*catalog.APIService
	// changes counts how often the members or their endpoints have changed,
	// nameChanges how often a member came or went.
	changes, nameChanges int

	downloads [documents][results]atomic.Uint64
}

// What is downloaded, and what that brought, in metrics.
const (
	discoveryDocument = iota
	openAPIDocument
	documents
)

const (
	changed = iota
	unchanged
	downloadFailed
	results
)

var (
	documentNames = [documents]string{"discovery", "openapi"}
	resultNames   = [results]string{"changed", "unchanged", "failed"}
)

// count takes note of a download.
func (srv *server) count(document int, ok, same bool) {
	result := changed
	switch {
	case !ok:
		result = downloadFailed
	case same:
		result = unchanged
	}
	srv.downloads[document][result].Add(1)
}

func newServer(cancel context.CancelFunc, members []*catalog.APIService) *server {
	return &server{
		cancel: cancel, members: members, attempted: make(chan struct{}), probeEnded: make(chan struct{}, 1),
		discoverNow: make(chan struct{}, 1), openAPINow: make(chan struct{}, 1), refreshSoon: make(chan struct{}, 1),
	}
}

// setMembers takes over the members. It starts downloads at once where members or
// their endpoints have changed, and where one has become available or unavailable:
// only a download shows whether its document is still current.
func (srv *server) setMembers(members []*catalog.APIService) {
	sameNames := slices.EqualFunc(srv.members, members, func(a, b *catalog.APIService) bool { return a.Name == b.Name })
	sameTargets := sameNames && slices.EqualFunc(srv.members, members, func(a, b *catalog.APIService) bool {
		return slices.Equal(a.Target.Endpoints, b.Target.Endpoints) && a.Target.Unresolved == b.Target.Unresolved
	})
	availabilityChanged, edited := false, false
	for i := range members {
		if !sameTargets {
			break
		}
		// A first verdict is no change: the first download is under way already.
		judged := srv.members[i].Verdict.Status != ""
		availabilityChanged = availabilityChanged || judged && available(members[i]) != available(srv.members[i])
		edited = edited || revision(members[i]) != revision(srv.members[i])
	}
	srv.members = members
	if !sameTargets {
		srv.changes++
	}
	if !sameNames {
		srv.nameChanges++
	}
	if !sameTargets || availabilityChanged {
		wake(srv.discoverNow)
		wake(srv.openAPINow)
	}
	if edited {
		wake(srv.refreshSoon)
	}
}

func available(a *catalog.APIService) bool {
	return a.Verdict.Status == apiregistrationv1.ConditionTrue
}

func revision(a *catalog.APIService) string {
	if a.Object == nil {
		return ""
	}
	return a.Object.ResourceVersion
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
