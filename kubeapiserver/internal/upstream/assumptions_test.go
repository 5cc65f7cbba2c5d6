package upstream

// Where this project relies on upstream's inside.
const (
	chainOwn    = "kubeapiserver/chain.go"
	layerOwn    = "kubeapiserver/aggregating.go"
	handlerOwn  = "kubeapiserver/internal/handlerchain/handlerchain.go"
	filtersOwn  = "kubeapiserver/internal/handlerchain/filters.go"
	contextOwn  = "kubeapiserver/internal/handlerchain/requestcontext.go"
	deadlineOwn = "kubeapiserver/internal/handlerchain/deadline.go"
	tracerOwn   = "kubeapiserver/internal/handlerchain/tracer.go"
	loggingOwn  = "kubeapiserver/internal/handlerchain/httplog.go"
	keysOwn     = "kubeapiserver/internal/handlerchain/keys.go"
	connauthOwn = "kubeapiserver/internal/connauth/connauth.go"
	openapiOwn  = "kubeapiserver/internal/openapidocs/openapidocs.go"
	releaseOwn  = "kubeapiserver/internal/openapidocs/release.go"
	kindsOwn    = "kubeapiserver/internal/openapidocs/kinds.go"
	orderOwn    = "kubeapiserver/internal/priorities/priorities.go"
	mountOwn    = "kubeapiserver/filters.go"
	registerOwn = "kubeapiserver/autoregistration.go"
	hooksOwn    = "kubeapiserver/hooks.go"
	metricsOwn  = "kubeapiserver/certmetrics.go"
	peersOwn    = "kubeapiserver/peers.go"
	cachesOwn   = "kubeapiserver/internal/watchcache/watchcache.go"
	resolverOwn = "kubeapiserver/layer.go"
	runOwn      = "kubeapiserver/launch/run.go"
	pluginsOwn  = "kubeapiserver/launch/plugins.go"
	egressOwn   = "kubeapiserver/launch/egress.go"
	versionOwn  = "kubeapiserver/version/version.go"
	upOwn       = "internal/cli/up/run.go"
	etcdLogOwn  = "internal/etcd/logger.go"
	etcdDataOwn = "internal/etcd/inspect.go"
)

const stabilityFirst = `fmt.Sprintf("[%v] %v", o.StabilityLevel, o.Help)`

func ours(paths ...string) []string { return paths }

// assumptions are in the order of a request's way: the process, the chain of
// servers, the filters, the layer, what is stored.
var assumptions = []assumption{
	has("the variables of the reported version are strings with these names, and are copied when their package is initialised",
		ours(versionOwn), File{base, "version/base.go"}, linknamed,
		change{old: "gitTreeState = ", new: "gitTreeStatus = "}, change{old: "gitMajor string", new: "gitMajor int"}),
	all("kube-apiserver's main package imports what launch does for its effect", ours(pluginsOwn),
		has("", nil, File{kubernetes, "cmd/kube-apiserver/apiserver.go"}, plugins,
			change{old: "import (\n", new: "import (\n\t_ \"k8s.io/component-base/metrics/prometheus/controllers\"\n"})),
	unchanged("launch does what the command and its Run do: feature gates, logging, validation, metrics of gates and versions, informers' name",
		ours(runOwn), part{File{kubernetes, "cmd/kube-apiserver/app/server.go"}, []string{"NewAPIServerCommand", "Run"}}),
	unchanged("an HTTPConnect proxy over plain TCP passes validation and panics later",
		ours(egressOwn), part{File{apiserver, "pkg/server/egressselector/egress_selector.go"}, []string{"connectionToDialerCreator", "getTLSConfig"}}),
	all("the server does not start where endpoints of default/kubernetes would name a loopback address: `annex up` says --endpoint-reconciler-type=none there",
		ours(upOwn),
		has("", nil, File{kubernetes, "pkg/controlplane/instance.go"},
			contains("CompletedConfig.New", "c.Extra.EndpointReconcilerConfig.Reconciler.ValidateIP(c.ControlPlane.Generic.PublicAddress); err != nil"),
			change{old: "Reconciler.ValidateIP(", new: "Reconciler.ValidateAddress("}),
		unchanged("", nil,
			part{File{kubernetes, "pkg/controlplane/reconcilers/lease.go"}, []string{"leaseEndpointReconciler.ValidateIP"}},
			part{File{kubernetes, "pkg/controlplane/reconcilers/none.go"}, []string{"noneEndpointReconciler.ValidateIP"}},
			part{File{kubernetes, "pkg/apis/core/validation/validation.go"}, []string{"ValidateEndpointIP"}})),
	has("a server's identity Lease lasts an hour and is renewed every 10 s, by a variable that is read when the server starts",
		ours(runOwn), File{kubernetes, "pkg/controlplane/apiserver/server.go"}, both(
			is("IdentityLeaseRenewIntervalPeriod", "10 * time.Second"), is("IdentityLeaseDurationSeconds", "3600"),
			contains("completedConfig.New", "IdentityLeaseRenewIntervalPeriod")),
		change{old: "IdentityLeaseRenewIntervalPeriod = 10 * time.Second", new: "IdentityLeaseRenewIntervalPeriod = 20 * time.Second"},
		change{old: "IdentityLeaseDurationSeconds = 3600", new: "IdentityLeaseDurationSeconds = 360"}),

	outline("the chain of servers is built in this order", ours(chainOwn),
		File{kubernetes, "cmd/kube-apiserver/app/server.go"}, "CreateServerChain",
		change{File{kubernetes, "cmd/kube-apiserver/app/server.go"}, "aggregatorServer, err := controlplaneapiserver.CreateAggregatorServer(", "aggregatorServer, err := controlplaneapiserver.CreateLayeredServer("}),
	outline("the reference's layer has these hooks, signals, controllers and handlers", ours(layerOwn, hooksOwn),
		File{aggregator, "pkg/apiserver/apiserver.go"}, "completedConfig.NewWithDelegate",
		change{File{aggregator, "pkg/apiserver/apiserver.go"}, `"apiservice-discovery-controller"`, `"apiservice-discovery"`}),
	unchanged("the layer's OpenAPI hooks are added, and documents of delegates exist, when the server is prepared", ours(layerOwn, hooksOwn),
		part{File{aggregator, "pkg/apiserver/apiserver.go"}, []string{"APIAggregator.PrepareRun"}}),
	unchanged("APIServices of built-ins and CRDs are kept, and health waits for them, as here", ours(registerOwn),
		part{File{kubernetes, "pkg/controlplane/apiserver/aggregator.go"}, []string{
			"CreateAggregatorServer", "makeAPIService", "makeAPIServiceAvailableHealthCheck", "apiServicesToRegister",
		}}),
	has("the table of priorities of built-in group versions is this one", ours(orderOwn),
		File{kubernetes, "cmd/kube-apiserver/app/aggregator.go"}, samePriorities,
		change{old: `{Group: 17800, Version: 15}`, new: `{Group: 17800, Version: 16}`},
		change{old: `{Group: "lifecycle.k8s.io", Version: "v1alpha1"}`, new: `{Group: "lifecycle.k8s.io", Version: "v1beta1"}`}),
	unchanged("the chain around the layer's server is the default one, but for storage versions and peers", ours(mountOwn),
		part{File{kubernetes, "pkg/controlplane/apiserver/aggregator.go"}, []string{"CreateAggregatorConfig"}}),
	has("a config's chain is DefaultBuildHandlerChain itself, which is how it is recognised", ours(mountOwn),
		File{apiserver, "pkg/server/config.go"}, contains("NewConfig", "BuildHandlerChainFunc: DefaultBuildHandlerChain,", "TracerProvider: tracing.NewNoopTracerProvider(),"),
		change{old: "BuildHandlerChainFunc:          DefaultBuildHandlerChain", new: "BuildHandlerChainFunc:          BuildHandlerChainWithStorageVersionPrecondition"},
		change{old: "TracerProvider:        tracing.NewNoopTracerProvider()", new: "TracerProvider:        nil"}),
	has("the filters lead to the director that was there when the server was made, and replacing it later is for those who call without filters",
		ours(layerOwn), File{apiserver, "pkg/server/handler.go"},
		contains("NewAPIServerHandler", "FullHandlerChain: handlerChainBuilder(director),", "Director: director,"),
		change{old: "handlerChainBuilder(director)", new: "handlerChainBuilder(nonGoRestfulMux)"}),
	has("a server in front of another calls its director", ours(layerOwn), File{apiserver, "pkg/server/genericapiserver.go"},
		contains("GenericAPIServer.UnprotectedHandler", "return s.Handler.Director"),
		change{old: "return s.Handler.Director", new: "return s.Handler"}),

	outline("claimed paths have the same filters in the same order", ours(handlerOwn, filtersOwn),
		File{apiserver, "pkg/server/config.go"}, "DefaultBuildHandlerChain",
		change{File{apiserver, "pkg/server/config.go"}, "\thandler = genericfilters.WithHSTS(handler, c.HSTSDirectives)\n", ""},
		change{File{apiserver, "pkg/server/config.go"}, "c.GoawayChance > 0", "c.GoawayChance > 1"},
		change{File{apiserver, "pkg/server/config.go"}, "handler := apiHandler\n", "handler := genericapifilters.WithCacheControl(apiHandler)\n"}),
	unchanged("these filters do what the claimed chain does in their place", ours(handlerOwn, filtersOwn, contextOwn, deadlineOwn),
		part{file: File{apiserver, "pkg/endpoints/filterlatency/filterlatency.go"}},
		part{file: File{apiserver, "pkg/endpoints/filters/audit_init.go"}},
		part{file: File{apiserver, "pkg/endpoints/filters/cachecontrol.go"}},
		part{file: File{apiserver, "pkg/endpoints/filters/mux_discovery_complete.go"}},
		part{file: File{apiserver, "pkg/endpoints/filters/request_deadline.go"}},
		part{file: File{apiserver, "pkg/endpoints/filters/request_received_time.go"}},
		part{file: File{apiserver, "pkg/endpoints/filters/requestinfo.go"}},
		part{file: File{apiserver, "pkg/endpoints/filters/warning.go"}},
		part{file: File{apiserver, "pkg/endpoints/filters/webhook_duration.go"}},
		part{file: File{apiserver, "pkg/server/filters/goaway.go"}},
		part{file: File{apiserver, "pkg/server/filters/hsts.go"}},
		part{file: File{apiserver, "pkg/server/filters/timeout.go"}},
		part{file: File{apiserver, "pkg/server/filters/waitgroup.go"}},
		part{file: File{apiserver, "pkg/server/filters/watch_termination.go"}},
		part{file: File{apiserver, "pkg/server/filters/with_retry_after.go"}},
		part{file: File{apiserver, "pkg/server/filters/wrap.go"}}),
	all("accessors look into a context for one key, under which their filter has put a value of this type", ours(keysOwn, contextOwn),
		key("pkg/endpoints/request/requestinfo.go", "RequestInfoFrom", "requestInfoKey", "*RequestInfo", "WithRequestInfo"),
		key("pkg/endpoints/request/received_time.go", "ReceivedTimestampFrom", "requestReceivedTimestampKey", "time.Time", "WithReceivedTimestamp"),
		key("pkg/endpoints/request/server_shutdown_signal.go", "ServerShutdownSignalFrom", "serverShutdownSignalKey", "ServerShutdownSignal", "WithServerShutdownSignal"),
		key("pkg/audit/context.go", "AuditContextFrom", "auditKey", "*AuditContext", "WithAuditContext"),
		key("pkg/warning/context.go", "warningRecorderFrom", "warningRecorderKey", "Recorder", "WithWarningRecorder")),
	has("requests are logged from this level on, by a file of this name, which --vmodule goes by", ours(loggingOwn),
		File{apiserver, "pkg/server/httplog/httplog.go"}, loggingLevel,
		change{old: "const withLoggingLevel = 3", new: "const withLoggingLevel = 4"},
		change{old: "return klog.V(withLoggingLevel).Enabled()", new: "return klog.V(2).Enabled()"}),
	has("the tracer of filters has this name", ours(tracerOwn), File{apiserver, "pkg/endpoints/filterlatency/filterlatency.go"},
		contains("", `"k8s.op/apiserver/pkg/endpoints/filterlatency"`),
		change{old: "k8s.op/apiserver", new: "k8s.io/apiserver"}),
	unchanged("a request's span is made so, and may join its client's trace for these users", ours(tracerOwn),
		part{file: File{apiserver, "pkg/endpoints/filters/traces.go"}}),
	has("a provider whose spans nobody sees is of one type", ours(tracerOwn), File{base, "tracing/utils.go"},
		contains("NewNoopTracerProvider", "return &noopTracerProvider{TracerProvider: noopoteltrace.NewTracerProvider()}"),
		change{old: "return &noopTracerProvider{", new: "return &silentTracerProvider{"}),
	unchanged("priority and fairness is handed the request's context, and has a request hold its seats until execute returns", ours(mountOwn),
		part{File{apiserver, "pkg/server/filters/priority-and-fairness.go"}, []string{"priorityAndFairnessHandler.Handle"}},
		part{File{apiserver, "pkg/util/flowcontrol/apf_filter.go"}, []string{"configController.Handle"}}),
	unchanged("it says which priority level a request is of before it lets it go on", ours(mountOwn),
		part{File{apiserver, "pkg/util/flowcontrol/apf_controller.go"}, []string{"configController.startRequest"}}),
	has("nodes, leader elections and controllers of kube-system are of the priority levels that the layer takes for high", ours(mountOwn),
		File{apiserver, "pkg/apis/flowcontrol/bootstrap/default.go"}, contains("",
			`"system-leader-election", "leader-election", 100`, `"system-node-high", "node-high", 400`, `"system-nodes", "system", 500`,
			`"kube-controller-manager", "workload-high", 800`, `"kube-system-service-accounts", "workload-high", 900`),
		change{old: `"kube-controller-manager", "workload-high"`, new: `"kube-controller-manager", "workload-low"`}),

	has("the x509 authenticator, and nothing else, tells of a credential of this kind", ours(connauthOwn),
		File{apiserver, "pkg/authentication/request/x509/x509.go"}, contains("", `id := "X509SHA256=" + hex.EncodeToString(fp[:])`),
		change{old: `"X509SHA256="`, new: `"X509SHA512="`}),
	unchanged("its answer rests on the certificates of the connection, the CA bundle and the time alone, and it observes each certificate's remaining life",
		ours(connauthOwn, metricsOwn),
		part{File{apiserver, "pkg/authentication/request/x509/x509.go"}, []string{"Authenticator.AuthenticateRequest", "Verifier.AuthenticateRequest"}}),
	unchanged("kube-apiserver asks front proxies' headers before it and tokens after it, and nothing vetoes what it says", ours(connauthOwn),
		part{File{kubernetes, "pkg/kubeapiserver/authenticator/config.go"}, []string{"Config.New"}}),
	unchanged("listeners of a CA bundle are told after it was replaced", ours(connauthOwn),
		part{File{apiserver, "pkg/server/dynamiccertificates/dynamic_cafile_content.go"}, []string{"DynamicFileCAContent.loadCABundle"}},
		part{file: File{apiserver, "pkg/server/dynamiccertificates/union_content.go"}}),

	unchanged("documents of built-in types are built and served so", ours(openapiOwn, kindsOwn),
		part{file: File{apiserver, "pkg/server/routes/openapi.go"}},
		part{File{apiserver, "pkg/server/genericapiserver.go"}, []string{"GenericAPIServer.PrepareRun"}}),
	unchanged("kube-openapi's handlers make everything else of a document's JSON, once they have that", ours(openapiOwn),
		part{file: File{openAPI, "pkg/handler/handler.go"}}, part{file: File{openAPI, "pkg/handler3/handler.go"}}),
	unchanged("builders of documents leave what they have made in their config", ours(releaseOwn),
		part{File{openAPI, "pkg/builder/openapi.go"}, []string{"newOpenAPI"}}, part{File{openAPI, "pkg/builder3/openapi.go"}, []string{"newOpenAPI"}}),

	all("resolvers that the reference makes for Services are of kube-aggregator's package", ours(resolverOwn),
		has("", nil, File{aggregator, "pkg/apiserver/resolvers.go"}, both(
			contains("NewEndpointServiceResolver", "return &aggregatorEndpointRouting{"),
			contains("NewClusterIPServiceResolver", "return &aggregatorClusterRouting{"),
			contains("NewLoopbackServiceResolver", "return &loopbackResolver{")),
			change{old: "return &loopbackResolver{", new: "return other.NewResolver{"}),
		unchanged("", nil, part{File{kubernetes, "cmd/kube-apiserver/app/server.go"}, []string{"buildServiceResolver"}})),
	unchanged("the aggregated document's handler answers a known ETag with 304 and no body, and is counted when it returns, not when it panics", ours("aggregator/internal/discovery/caching.go"),
		part{file: File{apiserver, "pkg/endpoints/discovery/aggregated/handler.go"}},
		part{File{apiserver, "pkg/endpoints/metrics/metrics.go"}, []string{"InstrumentHandlerFunc"}}),
	unchanged("the discovery of peers keeps a document that it made while something changed, and a manager tells one callback of changes", ours(peersOwn),
		part{File{apiserver, "pkg/endpoints/discovery/aggregated/peer_aggregated_handler.go"}, []string{"NewPeerAggregatedDiscoveryHandler", "peerAggregatedDiscoveryHandler.fetchFromCache"}},
		part{File{apiserver, "pkg/endpoints/discovery/aggregated/handler.go"}, []string{"resourceDiscoveryManager.AddInvalidationCallback"}}),
	all("metrics that are observed here have these names", ours(metricsOwn, "aggregator/metrics.go"),
		metric(File{aggregator, "pkg/apiserver/metrics.go"}, "apiserver", "kube_aggregator", "x509_missing_san_total"),
		metric(File{aggregator, "pkg/apiserver/metrics.go"}, "apiserver", "kube_aggregator", "x509_insecure_sha1_total"),
		metric(File{apiserver, "pkg/authentication/request/x509/x509.go"}, "apiserver", "client", "certificate_expiration_seconds"),
		metric(File{aggregator, "pkg/controllers/status/metrics/metrics.go"}, "", "", "aggregator_unavailable_apiservice_total"),
		unchanged("", nil, part{file: File{aggregator, "pkg/controllers/status/metrics/metrics.go"}})),
	has("the registry puts the stability level before a help text so", ours(metricsOwn), File{base, "metrics/opts.go"},
		both(contains("CounterOpts.annotateStabilityLevel", stabilityFirst), contains("HistogramOpts.annotateStabilityLevel", stabilityFirst)),
		change{old: stabilityFirst, new: `fmt.Sprintf("(%v) %v", o.StabilityLevel, o.Help)`}),

	unchanged("the decorator with watch caches is a closure of this function, and makes them so", ours(cachesOwn),
		part{File{apiserver, "pkg/registry/generic/registry/storage_factory.go"}, []string{"StorageWithCacher"}}),
	has("a watch cache takes its timers from the clock that it is given", ours(cachesOwn), File{apiserver, "pkg/storage/cacher/cacher.go"},
		contains("NewCacherFromConfig", "config.Clock = clock.RealClock{}"),
		change{old: "config.Clock = clock.RealClock{}", new: "config.Clock = nil"}),

	all("etcd's messages that are no news to a lone member read so", ours(etcdLogOwn),
		message("auth/store.go", "simple token is not cryptographically signed"),
		message("embed/config.go", "Running http and grpc server on single port. This is not recommended for production."),
		message("storage/schema/schema.go", "missing term information")),
	has("etcd keeps the last index that it applied under this key of this bucket", ours(etcdDataOwn), File{etcd, "storage/schema/bucket.go"},
		both(is("metaBucketName", `[]byte("meta")`), is("MetaConsistentIndexKeyName", `[]byte("consistent_index")`)),
		change{old: `"consistent_index"`, new: `"applied_index"`}, change{old: `[]byte("meta")`, new: `[]byte("metadata")`}),
}
