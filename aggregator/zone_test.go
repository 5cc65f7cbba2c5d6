package aggregator

import (
	"testing"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/annex-api/annex/aggregator/internal/backendtest"
)

// The zone may become known while the layer runs.
func TestSetZone(t *testing.T) {
	server := &backendtest.Server{Service: "api", Address: "192.0.2.1:443"}
	initial := state([]*apiregistrationv1.APIService{server.APIService("v1.a.example")}, server)
	for _, facts := range initial.Services {
		facts.Slices[0].Endpoints[0].Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: "there"}}}
	}
	r := run(t, Config{}, initial)
	defer r.stop()
	for _, c := range []struct {
		zone      string
		otherZone bool
	}{{"here", true}, {"there", false}, {"here", true}, {"", false}} {
		r.SetZone(c.zone)
		deadline := time.Now().Add(patience)
		for tick := time.Tick(5 * time.Millisecond); r.snapshot.Load().Remotes()[0].Target.Endpoints[0].OtherZone != c.otherZone; <-tick {
			if time.Now().After(deadline) {
				t.Fatalf("in zone %q the endpoint is not in another zone=%v", c.zone, c.otherZone)
			}
		}
	}
}
