// Package appview shows ConfigMaps as Apps, to those who belong to an App's team. What they
// make of an App is written into its ConfigMap.
package appview

import (
	"cmp"
	"context"
	"embed"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"

	v1 "github.com/annex-api/annex/examples/appview/v1"
	"github.com/annex-api/annex/extension"
)

//go:generate go tool -modfile=../../tools/go.mod controller-gen object paths=./...
//go:generate go tool -modfile=../../tools/go.mod controller-gen crd paths=./... output:crd:dir=crd

//go:embed crd
var crds embed.FS

// appLabel is on the ConfigMaps that are shown.
const appLabel = "app"

// ConfigMaps are those that are shown, of all namespaces.
var ConfigMaps = extension.Source{
	Resource: corev1.SchemeGroupVersion.WithResource("configmaps"),
	Labels:   appLabel + "=true",
}

// Apps is the kind, over what looks like ConfigMaps.
func Apps(source extension.Source) extension.Projection[v1.App, corev1.ConfigMap] {
	return extension.Projection[v1.App, corev1.ConfigMap]{
		GroupVersion: v1.GroupVersion, Schema: crds, Source: source,
		To: toApp, From: fromApp, Allowed: ofTheTeam,
	}
}

func toApp(from *corev1.ConfigMap, into *v1.App) (bool, error) {
	delete(into.Labels, appLabel)
	into.Spec.Image, into.Status.Phase = from.Data["image"], from.Data["phase"]
	n, err := strconv.ParseInt(cmp.Or(from.Data["replicas"], "1"), 10, 32)
	into.Spec.Replicas = new(int32(n))
	return true, err
}

// fromApp leaves the phase alone: who writes an App does not know it.
func fromApp(_ context.Context, app *v1.App, into *corev1.ConfigMap) error {
	if into.Data == nil {
		into.Data = map[string]string{}
	}
	into.Data["image"] = app.Spec.Image
	into.Data["replicas"] = strconv.Itoa(int(*app.Spec.Replicas)) // it has a default
	return nil
}

// ofTheTeam lets a team do all with its own Apps, and administrators with all.
func ofTheTeam(ctx context.Context, _ string, app *v1.App) bool {
	groups := extension.CallerOf(ctx).Groups
	team := app.Labels[v1.TeamLabel]
	return slices.Contains(groups, "system:masters") || team != "" && slices.Contains(groups, "team:"+team)
}
