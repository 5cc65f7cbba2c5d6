package kubeapiserver

import (
	"testing"

	"github.com/annex-api/annex/aggregator"
)

func TestAddressing(t *testing.T) {
	for _, c := range []struct {
		options []Option
		routing bool
		want    aggregator.Addressing
	}{
		{nil, false, aggregator.WhatWorks},
		{nil, true, aggregator.EndpointAddresses},
		{[]Option{ClusterIPOnly()}, false, aggregator.ClusterIP},
		{[]Option{InZone("a")}, false, aggregator.WhatWorks},
	} {
		var o chainOptions
		for _, set := range c.options {
			set(&o)
		}
		if got := o.addressing(c.routing); got != c.want {
			t.Errorf("%d options, routing %v: %v, want %v", len(c.options), c.routing, got, c.want)
		}
	}
}
