package main

import "slices"

// explanation is why a check fails at resources, as somebody found out who looked.
type explanation struct {
	check     string
	resources []string // as in flunders.v1alpha1.wardle.example.com
	fault     string   // whose it is
	because   string
}

const (
	flundersAlpha = "flunders.v1alpha1.wardle.example.com"
	flundersBeta  = "flunders.v1beta1.wardle.example.com"
	fischers      = "fischers.v1alpha1.wardle.example.com"
	external      = "externalmetrics.v1beta1.external.metrics.k8s.io"
	customMetrics = "/custommetrics.v1beta2.custom.metrics.k8s.io"
	nodeMetrics   = "nodes.v1beta1.metrics.k8s.io"
	podMetrics    = "pods.v1beta1.metrics.k8s.io"
	deployments   = "deployments.v1.apps"
)

// explanations are the failures that are known.
var explanations = []explanation{
	{
		"media/protobuf",
		[]string{flundersAlpha, flundersBeta, fischers},
		"the peer's",
		"Its codec offers protobuf for every kind, and these types have none: it is found out when the answer is written, after JSON was passed over. The widest known fault of servers on k8s.io/apiserver (kubernetes#86253).",
	},
	{
		"openapi/comments",
		[]string{flundersAlpha, fischers},
		"the peer's",
		"The types of v1alpha1 have no comments, those of v1beta1 have: `kubectl explain` has nothing to say.",
	},
	{
		"discovery/legacy",
		[]string{external, nodeMetrics, podMetrics},
		"the peer's",
		"Its discovery is written by hand, or is of a kind of before Kubernetes 1.27, without singularName. kubectl falls back to the kind in lower case.",
	},
	{
		"get/not-found",
		[]string{external},
		"the peer's API",
		"It has no objects with names: what discovery calls get is a list of values. So no route leads to a name, and the 404 of the mux names nothing.",
	},
	{
		"discovery/legacy",
		[]string{customMetrics},
		"the peer's",
		"The default provider lists a metric of no resource, so that its name is an empty word, a slash and the metric.",
	},
	{
		"discovery/aggregated",
		[]string{customMetrics},
		"the peer's, and Annex's",
		"It follows from the name: Annex leaves the one resource out, with a warning, and the reference lists nothing either. The version is Current, and namespaces end.",
	},
	{
		"get/not-found",
		[]string{customMetrics},
		"the peer's",
		"It follows from the name: the path has an empty segment. Annex does not forward what can be read in two ways; behind the reference the peer answers 500.",
	},
	{
		"list/resource-version",
		[]string{nodeMetrics, podMetrics},
		"the peer's",
		"Measured values are lists without any version. There is no watch that would begin at one, so clients that only list are not hurt; informers cannot be used.",
	},
	{
		"table/list",
		[]string{nodeMetrics, podMetrics},
		"the peer's",
		"The same: a table shows the version of its list, and there is none.",
	},
	{
		"generation/labels",
		[]string{deployments},
		"the kind's, on purpose",
		"A Deployment's annotations are copied to its ReplicaSets, so that they are a part of what is wanted: its strategy counts them (pkg/registry/apps/deployment/strategy.go). The convention knows no such exception.",
	},
}

// explained finds the explanation of a failure.
func explained(known []explanation, resource, check string) (explanation, bool) {
	for _, e := range known {
		if e.check == check && e.of(resource) {
			return e, true
		}
	}
	return explanation{}, false
}

func (e explanation) of(resource string) bool { return slices.Contains(e.resources, resource) }
