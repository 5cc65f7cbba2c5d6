// Package extension serves Kubernetes API kinds of your own, with their controllers,
// from one program.
//
// A kind is declared as a value. A [Resource] is stored:
//
//	var Widgets = extension.Resource[v1.Widget, v1.WidgetList]{
//		GroupVersion: v1.GroupVersion,
//		Names:        extension.Names{Short: []string{"wd"}},
//		Validate:     validate,
//		Status:       true,
//	}
//
// A [Computed] kind is made up when something changes, a [Projection] shows the objects of
// another API, and [FromCRD] or [FromOpenAPI] declare a kind without a Go type. [Reconcile]
// runs a controller beside them.
//
// [Main] runs a program of such values; [New] and [Server.Run] are the same for who
// embeds a server in something bigger. [Server.As] reaches a server in the same process,
// without a port.
//
// Hooks have the names that Kubernetes gives them, and get your own type, the hub: the
// one version that others are converted to. Everything else is as it is in a
// kube-apiserver, because its parts do it: apply, patches, dry run, field validation,
// selectors, paging, watches, tables, OpenAPI.
package extension
