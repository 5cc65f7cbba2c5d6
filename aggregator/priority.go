package aggregator

import (
	"context"
	"slices"

	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/annex-api/annex/aggregator/internal/backend/limit"
)

// Priority of a request among those for the same extension server.
type Priority int

const (
	// Ordinary is the priority of requests that nothing is kept for.
	Ordinary Priority = iota
	// High is that of requests which others must not crowd out. A part of what an
	// extension server may have under way is kept for them.
	High
	// Exempt is that of requests that are not bounded by user either. A part is kept
	// for them alone.
	Exempt
)

// internal converts p for the parts of the layer.
func (p Priority) internal() limit.Priority {
	switch p {
	case High:
		return limit.High
	case Exempt:
		return limit.Exempt
	default:
		return limit.Ordinary
	}
}

// SetPriority tells the priority of the request of a context that WithRoute made, as
// the host's own queues have it. It is called before Handler, if at all: of other
// requests those of system:masters are Exempt, and all others Ordinary.
func (a *Aggregator) SetPriority(ctx context.Context, p Priority) {
	if d, ok := ctx.Value(decisionKey{a}).(*decision); ok {
		d.priority, d.prioritized = p, true
	}
}

// priorityOf is the priority of a request.
func (d *decision) priorityOf(ctx context.Context) limit.Priority {
	if d.prioritized {
		return d.priority.internal()
	}
	if u, ok := request.UserFrom(ctx); ok && slices.Contains(u.GetGroups(), user.SystemPrivilegedGroup) {
		return limit.Exempt
	}
	return limit.Ordinary
}
