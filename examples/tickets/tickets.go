// Package tickets serves a kind of which there are many objects, kept in PostgreSQL: how to
// page through them, select some of them, and watch those alone.
package tickets

import (
	"context"
	"embed"

	"k8s.io/apimachinery/pkg/util/validation/field"

	v1 "github.com/annex-api/annex/examples/tickets/v1"
	"github.com/annex-api/annex/extension"
)

//go:generate go tool -modfile=../../tools/go.mod controller-gen object paths=./...
//go:generate go tool -modfile=../../tools/go.mod controller-gen crd paths=./... output:crd:dir=crd

//go:embed crd
var crds embed.FS

// Tickets is the kind. Whoever may update tickets/assign gives a ticket to somebody, and can
// change nothing else of it.
var Tickets = extension.Resource[v1.Ticket, v1.TicketList]{
	GroupVersion: v1.GroupVersion,
	Schema:       crds,
	// Everybody watches his own: an event is looked up by its assignee, and not offered to
	// each watch in turn.
	Indexed: "spec.assignee",
	Sub: extension.Sub(extension.Update("assign", extension.UpdateOf[v1.Ticket]{
		Fields:         []string{".spec.assignee"},
		ValidateUpdate: validateAssign,
	})),
}

// validateAssign keeps what is done from being given to somebody.
func validateAssign(_ context.Context, ticket, _ *v1.Ticket) field.ErrorList {
	if ticket.Status.Resolution == "" {
		return nil
	}
	return field.ErrorList{field.Forbidden(field.NewPath("spec", "assignee"), "the ticket is resolved")}
}
