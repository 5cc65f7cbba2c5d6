package backend

import (
	"testing"

	"github.com/annex-api/annex/aggregator/internal/catalog"
)

func TestReachabilityIsLoggedWhenItChanges(t *testing.T) {
	const one, two, cluster = "192.0.2.1:443", "192.0.2.2:443", "10.0.0.1:443"
	type probe struct {
		address string
		passed  bool
		want    int // how the Service is reached after it
	}
	for what, c := range map[string]struct {
		only   bool // without a cluster IP
		probes []probe
		logged int
	}{
		"inside the Pod network": {false, []probe{{one, true, toEndpoints}, {two, true, toEndpoints}, {cluster, true, toEndpoints}, {one, true, toEndpoints}}, 1},
		"cluster IP answers first, inside": {false, []probe{
			{cluster, true, undecided}, {one, true, toEndpoints}, {two, false, toEndpoints},
		}, 1},
		"outside": {false, []probe{
			{cluster, true, undecided}, {one, false, undecided}, {two, false, toClusterIP}, {cluster, true, toClusterIP}, {one, false, toClusterIP},
		}, 1},
		"the extension server is gone": {false, []probe{
			{one, true, toEndpoints}, {cluster, false, toEndpoints}, {one, false, toEndpoints}, {two, false, toEndpoints},
		}, 1},
		"the Pod network comes and goes": {false, []probe{
			{cluster, true, undecided}, {one, false, undecided}, {two, false, toClusterIP}, {two, true, toEndpoints}, {two, false, toClusterIP},
		}, 3},
		"no cluster IP to choose":       {true, []probe{{one, true, undecided}, {one, false, undecided}, {two, false, undecided}}, 0},
		"an address that left meantime": {false, []probe{{"192.0.2.9:443", true, undecided}}, 0},
	} {
		t.Run(what, func(t *testing.T) {
			endpoints := []catalog.Endpoint{{Address: one}, {Address: two}}
			if !c.only {
				endpoints = append(endpoints, catalog.Endpoint{Address: cluster, Fallback: true})
			}
			a := &catalog.APIService{Target: catalog.Target{Endpoints: endpoints}}
			b, logged := New(Config{}).Get(a), 0
			for i, p := range c.probes {
				before := b.reachability.last
				b.Probed(p.address, p.passed, "")
				if b.reachability.last != before {
					logged++
				}
				if b.reachability.last != p.want {
					t.Errorf("after probe %d: %d, want %d", i, b.reachability.last, p.want)
				}
			}
			if logged != c.logged {
				t.Errorf("logged %d times, want %d", logged, c.logged)
			}
		})
	}
}
