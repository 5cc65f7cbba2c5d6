// Package widgets serves a kind that is stored, in two versions, with a status, a scale
// and an action.
package widgets

import (
	"context"
	"embed"
	"fmt"

	"k8s.io/apimachinery/pkg/util/validation/field"

	v1 "github.com/annex-api/annex/examples/widgets/v1"
	"github.com/annex-api/annex/examples/widgets/v1beta1"
	"github.com/annex-api/annex/extension"
)

//go:generate go tool -modfile=../../tools/go.mod controller-gen object paths=./...
//go:generate go tool -modfile=../../tools/go.mod controller-gen crd paths=./... output:crd:dir=crd

//go:embed crd
var crds embed.FS

// Widgets is the kind.
var Widgets = extension.Resource[v1.Widget, v1.WidgetList]{
	GroupVersion: v1.GroupVersion,
	Schema:       crds,
	Validate:     validate,
	PrepareForStatusUpdate: func(_ context.Context, w, _ *v1.Widget) {
		if w.Status.Phase == "" {
			w.Status.Phase = "Pending"
		}
	},
	Versions: extension.Versions(extension.Spoke("v1beta1", v1beta1.ToHub, v1beta1.FromHub)),
	Sub:      extension.Sub(extension.Action("restart", restart)),
}

// validate has what markers cannot say: a widget's parts weigh at most a tonne.
func validate(_ context.Context, w *v1.Widget) field.ErrorList {
	var weight int64
	for _, p := range w.Spec.Parts {
		weight += p.Weight
	}
	if weight > 1_000_000 {
		return field.ErrorList{field.Invalid(field.NewPath("spec", "parts"), weight, "all parts together weigh more than 1000000 grams")}
	}
	return nil
}

// Restart is the body of the action restart.
type Restart struct {
	Reason string `json:"reason"`
}

// Restarted is its answer.
type Restarted struct {
	Message string `json:"message"`
}

func restart(ctx context.Context, w *v1.Widget, in *Restart) (*Restarted, error) {
	return &Restarted{Message: fmt.Sprintf("%s restarts %s: %s", extension.CallerOf(ctx).Name, w.Name, in.Reason)}, nil
}
