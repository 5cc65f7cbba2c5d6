package bulletin

import (
	"context"
	"embed"
	"time"

	v1 "github.com/annex-api/annex/examples/bulletin/v1"
	"github.com/annex-api/annex/extension"
)

//go:generate go tool -modfile=../../tools/go.mod controller-gen object paths=./...
//go:generate go tool -modfile=../../tools/go.mod controller-gen crd paths=./... output:crd:dir=crd

//go:embed crd
var crds embed.FS

// Notices is the kind. Its phase is computed when a notice is created and when its
// spec.expires changes; in between, whoever writes the status says it.
var Notices = extension.Resource[v1.Notice, v1.NoticeList]{
	GroupVersion: v1.GroupVersion,
	Schema:       crds,
	PrepareForCreate: func(_ context.Context, n *v1.Notice) {
		n.Status.Phase = n.Spec.PhaseAt(time.Now())
	},
	PrepareForUpdate: func(_ context.Context, n, old *v1.Notice) {
		if !n.Spec.Expires.Equal(old.Spec.Expires) {
			n.Status.Phase = n.Spec.PhaseAt(time.Now())
		}
	},
	WarningsOnCreate: func(_ context.Context, n *v1.Notice) []string {
		if n.Spec.PhaseAt(time.Now()) == v1.PhaseExpired {
			return []string{"spec.expires: lies in the past, the notice is created expired"}
		}
		return nil
	},
	// The phase that is shown follows the clock, which the stored one may lag behind.
	Columns: extension.Columns(
		extension.ColumnOf[v1.Notice]{Name: "Severity", Description: "How much the notice matters.", Value: func(n *v1.Notice) any { return string(n.Spec.Severity) }},
		extension.ColumnOf[v1.Notice]{Name: "Phase", Description: "Whether the notice counts at this moment.", Value: func(n *v1.Notice) any { return string(n.PhaseAt(time.Now())) }},
		extension.ColumnOf[v1.Notice]{Name: "Message", Description: "What the notice says.", Value: func(n *v1.Notice) any { return n.Spec.Message }},
	),
}
