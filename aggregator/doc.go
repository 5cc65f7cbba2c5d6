// Package aggregator is the Kubernetes API aggregation layer: it answers for
// API groups that live in extension API servers.
//
// An APIService object claims the path /apis/<group>/<version>. The layer
// sends what comes for that path to the extension server behind the
// APIService's Service, merges the server's discovery and OpenAPI documents
// with those of its host, and reports whether the server answers.
//
// The layer is an http.Handler around the host's own: New takes a Config, Run
// does the work in the background, and Handler routes requests. The host
// authenticates and authorizes before the layer's handler runs and puts the
// user and the request info into the context, as k8s.io/apiserver's filters
// do.
package aggregator
