package kubeapiserver

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	"k8s.io/apiserver/pkg/endpoints/discovery/aggregated"
	"k8s.io/client-go/discovery"
)

// whilePeersAreAsked runs once while a merged document is made, after this server's
// own part of it was taken.
type whilePeersAreAsked struct{ do func() }

func (p *whilePeersAreAsked) GetPeerResources() map[string][]apidiscoveryv2.APIGroupDiscovery {
	if do := p.do; do != nil {
		p.do = nil
		do()
	}
	return nil
}

// A change that comes while the document is made shows in the next one.
func TestPeerDiscoveryKeepsNoDocumentOfBefore(t *testing.T) {
	version := apidiscoveryv2.APIVersionDiscovery{Version: "v1", Freshness: apidiscoveryv2.DiscoveryFreshnessStale}
	for what, change := range map[string]func(aggregated.ResourceManager, *peerDiscovery){
		"of this server": func(local aggregated.ResourceManager, _ *peerDiscovery) {
			local.AddGroupVersion("late.example", version)
		},
		"of a peer": func(local aggregated.ResourceManager, d *peerDiscovery) {
			local.AddInvalidationCallback(func() {}) // what is known of this server says nothing
			local.AddGroupVersion("late.example", version)
			d.InvalidateCache()
		},
	} {
		t.Run(what, func(t *testing.T) {
			local, peers := aggregated.NewResourceManager("apis"), &whilePeersAreAsked{}
			local.AddGroupVersion("early.example", version)
			d := newPeerDiscovery("a", local, peers)
			peers.do = func() { change(local, d) }
			for _, want := range []int{1, 2, 2} {
				if got := groups(t, d); len(got) != want {
					t.Errorf("%d groups, want %d: %v", len(got), want, got)
				}
			}
		})
	}
}

// A writer that ends the answer by a panic is no reason to keep the document.
func TestPeerDiscoveryWhenTheWriterPanics(t *testing.T) {
	local, peers := aggregated.NewResourceManager("apis"), &whilePeersAreAsked{}
	d := newPeerDiscovery("a", local, peers)
	peers.do = func() { local.AddGroupVersion("late.example", apidiscoveryv2.APIVersionDiscovery{Version: "v1"}) }
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the writer's panic was swallowed")
			}
		}()
		d.ServeHTTP(panicking{httptest.NewRecorder()}, discoveryRequest())
	}()
	if got := groups(t, d); len(got) != 1 {
		t.Errorf("groups %v, want the late one", got)
	}
}

type panicking struct{ http.ResponseWriter }

func (panicking) WriteHeader(int) { panic("cut") }

func discoveryRequest() *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/apis", nil)
	r.Header.Set("Accept", discovery.AcceptV2)
	return r
}

func groups(t *testing.T, h http.Handler) (names []string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, discoveryRequest())
	var list apidiscoveryv2.APIGroupDiscoveryList
	if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil {
		t.Fatalf("code %d: %v", w.Code, err)
	}
	for _, g := range list.Items {
		names = append(names, g.Name)
	}
	return names
}
