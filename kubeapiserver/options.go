package kubeapiserver

import "github.com/annex-api/annex/aggregator"

// Option changes what the configuration of kube-apiserver has no word for.
type Option func(*chainOptions)

type chainOptions struct {
	zone          string
	clusterIPOnly bool
}

// InZone names this server's zone: endpoints whose EndpointSlices hint at it
// are preferred.
func InZone(zone string) Option { return func(o *chainOptions) { o.zone = zone } }

// ClusterIPOnly sends to the addresses of Services and never to their
// endpoints, as the reference does without --enable-aggregator-routing. By
// default endpoints are used where they can be reached.
func ClusterIPOnly() Option { return func(o *chainOptions) { o.clusterIPOnly = true } }

func (o chainOptions) addressing(routing bool) aggregator.Addressing {
	switch {
	case routing:
		return aggregator.EndpointAddresses
	case o.clusterIPOnly:
		return aggregator.ClusterIP
	}
	return aggregator.WhatWorks
}
