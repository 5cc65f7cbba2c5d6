package backend

import (
	"testing"

	"github.com/annex-api/annex/aggregator/internal/catalog"
)

func TestTheWayIsSaidWhenItChanges(t *testing.T) {
	const one, two, cluster = "192.0.2.1:443", "192.0.2.2:443", "10.0.0.1:443"
	type probe struct {
		address string
		passed  bool
		want    int // the way after it
	}
	for what, c := range map[string]struct {
		only   bool // without a cluster IP
		probes []probe
		said   int
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
			b, said := New(Config{}).Get(a), 0
			for i, p := range c.probes {
				before := b.way.last
				b.Probed(p.address, p.passed)
				if b.way.last != before {
					said++
				}
				if b.way.last != p.want {
					t.Errorf("after probe %d: way %d, want %d", i, b.way.last, p.want)
				}
			}
			if said != c.said {
				t.Errorf("said %d times, want %d", said, c.said)
			}
		})
	}
}
