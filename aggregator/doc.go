// Package aggregator is the Kubernetes API aggregation layer: it answers for
// API groups that live in extension API servers.
//
// An APIService object claims the path /apis/<group>/<version>. The layer sends
// what comes for that path to the extension server behind the APIService's
// Service, merges the server's discovery and OpenAPI documents with those of its
// host, and reports whether the server answers. Until an APIService is there the
// layer does nothing.
//
// # What goes in
//
// A [Source] publishes the APIServices, and the Services and EndpointSlices that
// they name: [NewInformerSource] for a Kubernetes API server, [NewStaticSource] for
// APIServices that are set by hand, or one of the host's own. A host without
// Services brings a [Resolver]. Everything else of a [Config] may be left out.
//
// # What comes out
//
// [Aggregator.Handler] wraps the host's own handler. It answers
//
//   - /apis/<group>/<version> and what lies below it, and /api for the group without
//     a name, through the extension server that claims them,
//   - /apis and /apis/<group>, the lists of groups and their versions, and aggregated
//     discovery,
//   - /openapi/v2 and /openapi/v3,
//   - /, where Config.LocalPaths is given,
//
// and passes everything else on. A request that fails is answered with a
// metav1.Status: 503 while the extension server is not available, 429 while too many
// requests wait for it. One extension server that is slow or dead takes nothing from
// the others, nor from the host.
//
// With [StatusConfig] the Available condition of APIServices is written, with
// [Metrics] there are metrics. Neither decides where a request goes: each server
// goes by what it sees itself. [Aggregator.Observe] says what that is, of each
// APIService with its endpoints, documents and certificates, in the shape of the API
// aggregation.annex.dev/v1alpha1; [Aggregator.Changed] says when to ask again.
//
// # What the host does
//
// The layer's handler stands behind the host's authentication and authorization.
// Before it runs the host has
//
//   - authenticated the client and put the user into the context, with
//     k8s.io/apiserver/pkg/endpoints/request.WithUser. The layer passes that identity
//     on, and takes none from the request's headers. Without a user a request for an
//     extension server is answered with 500.
//   - authorized the request. The layer asks nobody, and an extension server may rely
//     on the host.
//   - put the RequestInfo into the context, with request.WithRequestInfo. By it the
//     layer knows discovery requests, which have a bound of their own, and watches and
//     other long-running requests, of which many more may be under way. Without it it
//     knows long-running ones by ?watch=true alone.
//   - bounded the request's time, but for long-running ones. The layer bounds discovery
//     requests and the wait for a free place at an extension server, and otherwise
//     waits for that server as long as the host does.
//
// What of the host has to know whether an extension server answers a request, and
// for how long it may take, learns it from [Aggregator.WithRoute] and
// [Aggregator.Claims].
//
// The filters of k8s.io/apiserver do all of that. Extension servers believe the
// identity only if they know the layer by Config.ClientCertificate.
//
// # Starting and stopping
//
// [New] makes the layer, without a goroutine. [Aggregator.Run] works until its
// context ends: it runs the Source, probes extension servers, downloads their
// documents and writes conditions. When it returns, nothing of that runs any more.
// If the Source fails Run ends by itself and returns the error: the host should end
// too, or it goes on with what was known last and learns nothing.
//
// A host that wants no request to miss its extension server waits for
// [Aggregator.Routes] before it is ready, and perhaps, for a second or so, for
// [Aggregator.AwaitDiscovery].
//
// To stop, the host stops taking requests, calls [Aggregator.StopReporting] while
// the API that conditions are written to still answers, ends the context of Run and
// waits for Run to return.
package aggregator
