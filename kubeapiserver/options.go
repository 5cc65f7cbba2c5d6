package kubeapiserver

import "github.com/annex-api/annex/aggregator"

// Option changes what the configuration of kube-apiserver has no word for.
type Option func(*chainOptions)

type chainOptions struct {
	zone          string
	clusterIPOnly bool

	verifyEachRequest bool
	plain             bool
}

// InZone names this server's zone: endpoints whose EndpointSlices hint at it
// are preferred. By default it is the label topology.kubernetes.io/zone of the
// Node that is called as this machine's host name, if there is one.
func InZone(zone string) Option { return func(o *chainOptions) { o.zone = zone } }

// ClusterIPOnly sends to the addresses of Services and never to their
// endpoints, as the reference does without --enable-aggregator-routing. By
// default endpoints are used where they can be reached.
func ClusterIPOnly() Option { return func(o *chainOptions) { o.clusterIPOnly = true } }

// VerifyEachRequest verifies client certificates anew with each request of a
// connection, as the reference does, and remembers nothing: for hosts whose own
// authenticator may refuse what a valid certificate proves.
func VerifyEachRequest() Option { return func(o *chainOptions) { o.verifyEachRequest = true } }

// Plain leaves kube-apiserver's own parts around the layer as they are: its handler
// chain for all paths, its authenticators, its priority and fairness, and when and
// how it builds its OpenAPI documents. It costs time and memory, and is for finding
// out whether what Annex changes there is at fault. Requests for extension servers
// hold seats of priority and fairness then, and request timeouts that APIServices
// set have no effect.
func Plain() Option { return func(o *chainOptions) { o.plain = true } }

func (o chainOptions) addressing(routing bool) aggregator.Addressing {
	switch {
	case routing:
		return aggregator.EndpointAddresses
	case o.clusterIPOnly:
		return aggregator.ClusterIP
	}
	return aggregator.WhatWorks
}
