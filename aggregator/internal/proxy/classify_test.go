package proxy

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/annex-api/annex/aggregator/internal/backendtest"
	"github.com/annex-api/annex/aggregator/internal/catalog"
	"github.com/annex-api/annex/aggregator/internal/proxy/traffic"
)

func TestClassify(t *testing.T) {
	a := &catalog.APIService{Registration: catalog.Registration{Name: name, Group: "a.example", Version: "v1"}, Document: backendtest.Things()}
	read, watches := kind{plainRead: true}, kind{plainRead: true, longRunning: true, watch: true}
	// What is not known to be a plain read is none, whatever its method.
	unknown, follows := kind{}, kind{longRunning: true}
	discovery := kind{plainRead: true, discovery: true}
	for _, c := range []struct {
		method, url string
		want        kind
	}{
		{http.MethodGet, base + "/things", read},
		{http.MethodGet, base + "/things/x", read},
		{http.MethodHead, base + "/things/x", read},
		{http.MethodPost, base + "/things", kind{}},
		{http.MethodDelete, base + "/things/x", kind{}},
		{http.MethodGet, base + "/things?watch=true", watches},
		{http.MethodGet, base + "/things?watch=1", watches},
		{http.MethodGet, base + "/watch/things", watches},
		{http.MethodGet, base + "/things?watch=false", read},
		{http.MethodPost, base + "/things?watch=1", kind{}},
		{http.MethodGet, base + "/namespaces/x/things/y/log?follow=true", follows},
		{http.MethodGet, base + "/namespaces/x/things/y/status", read},
		{http.MethodHead, base + "/namespaces/x/things/y/status", read},
		{http.MethodGet, base + "/namespaces/x/things/y/status/else", unknown}, // what is below it is not listed
		{http.MethodGet, base + "/things/y/status/else", unknown},
		{http.MethodGet, base + "/namespaces/x/things/y/scale", unknown}, // discovery does not list it
		{http.MethodGet, base + "/namespaces/x/things/y/console", unknown},
		{http.MethodGet, base + "/namespaces/x/things/y/exec", follows},
		{http.MethodGet, base + "/namespaces/x/things/y/attach", follows},
		{http.MethodGet, base + "/namespaces/x/things/y/portforward", follows},
		{http.MethodGet, base + "/namespaces/x/things/y/proxy/a/b", follows},
		{http.MethodGet, base + "/proxy/things/y", follows},
		{http.MethodGet, base + "/others/y", unknown},
		{http.MethodGet, base + "/others?watch=true", kind{longRunning: true, watch: true}},
		{http.MethodPost, base + "/namespaces/x/things/y/attach", kind{longRunning: true}},
		{http.MethodPost, base + "/namespaces/x/things/y/exec", kind{longRunning: true}},
		{http.MethodPost, base + "/namespaces/x/things/y/portforward", kind{longRunning: true}},
		{http.MethodGet, base + "/namespaces/x/things/y/proxy", follows},
		{http.MethodGet, base, discovery},
		{http.MethodGet, base + "/", discovery},
		{http.MethodPost, base, kind{discovery: true}},
		{http.MethodGet, "/apis/a.example", unknown},
		{http.MethodGet, "/other/path", unknown},
		{http.MethodGet, "/other?watch=true", kind{longRunning: true, watch: true}},
	} {
		r := httptest.NewRequest(c.method, c.url, nil)
		if got := classified(backendtest.WithInfo(t, r), a); got != c.want {
			t.Errorf("%s %s: %+v, want %+v", c.method, c.url, got, c.want)
		}
	}
	r := httptest.NewRequest(http.MethodGet, base, nil)
	if got := classified(r, a); got != unknown { // nobody has said what it is
		t.Errorf("without a RequestInfo: %+v, want %+v", got, unknown)
	}
	r.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}}
	if got, want := classified(r, a), (kind{upgrade: true, protocol: "websocket"}); got != want {
		t.Errorf("an upgrade: %+v, want %+v", got, want)
	}
	r.ProtoMinor = 0
	if got := classified(r, a); got != unknown {
		t.Errorf("an upgrade over HTTP/1.0: %+v, want %+v", got, unknown)
	}
	r = backendtest.WithInfo(t, httptest.NewRequest(http.MethodGet, base+"/things", nil))
	if got := classified(r, &catalog.APIService{Registration: a.Registration}); got != unknown {
		t.Errorf("before discovery is known: %+v, want %+v", got, unknown)
	}
}

// classified leaves out what a request is counted as.
func classified(r *http.Request, a *catalog.APIService) kind {
	k := classify(r, a)
	k.verb = 0
	return k
}

func TestWhatRequestsAreCountedAs(t *testing.T) {
	for _, c := range []struct {
		method, url string
		want        traffic.Verb
	}{
		{http.MethodGet, base + "/things/x", traffic.Get},
		{http.MethodGet, base + "/things", traffic.List},
		{http.MethodGet, base + "/things?watch=1", traffic.Watch},
		{http.MethodGet, base + "?watch=1", traffic.Watch},
		{http.MethodPatch, base + "/things/x", traffic.Write},
		{http.MethodGet, base + "/namespaces/x/things/y/log", traffic.Connect},
		{http.MethodGet, base + "/namespaces/x/things/y/proxy/a", traffic.Connect},
		{http.MethodGet, base, traffic.Other},
		{"PROPFIND", base + "/things/x", traffic.Other},
	} {
		r := backendtest.WithInfo(t, httptest.NewRequest(c.method, c.url, nil))
		if got := classify(r, noAPIService).verb; got != c.want {
			t.Errorf("%s %s: %v, want %v", c.method, c.url, got, c.want)
		}
		r.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}}
		if got := classify(r, noAPIService).verb; got != traffic.Connect {
			t.Errorf("%s %s as an upgrade: %v", c.method, c.url, got)
		}
	}
}

func TestUpgradeProtocol(t *testing.T) {
	for _, c := range []struct {
		connection, upgrade []string
		protocol            string
		isUpgrade           bool
	}{
		{[]string{"Upgrade"}, []string{"websocket"}, "websocket", true},
		{[]string{"keep-alive, upgrade"}, []string{"WebSocket"}, "websocket", true},
		{[]string{"keep-alive", "Upgrade"}, []string{"SPDY/3.1"}, "SPDY/3.1", true},
		{[]string{"Upgrade"}, []string{"spdy/3.1"}, "SPDY/3.1", true},
		{[]string{"Upgrade"}, []string{"foo"}, "", true},
		{[]string{"Upgrade"}, []string{"h2c"}, "", true},
		{[]string{"Upgrade"}, []string{"websocket, foo"}, "", true},
		{[]string{"Upgrade"}, []string{"websocket", "foo"}, "", true},
		{[]string{"Upgrade"}, []string{"websocket", "websocket"}, "", true},
		{[]string{"Upgrade"}, []string{""}, "", false},
		{[]string{"Upgrade"}, []string{" , "}, "", false},
		{[]string{"Upgrade"}, nil, "", false},
		{[]string{"keep-alive, upgrade"}, nil, "", false},
		{[]string{"Upgrades"}, []string{"websocket"}, "", false},
		{nil, []string{"websocket"}, "", false},
		{[]string{"close"}, nil, "", false},
	} {
		protocol, upgrade := upgradeProtocol(http.Header{"Connection": c.connection, "Upgrade": c.upgrade})
		if protocol != c.protocol || upgrade != c.isUpgrade {
			t.Errorf("%q %q: %q %v, want %q %v", c.connection, c.upgrade, protocol, upgrade, c.protocol, c.isUpgrade)
		}
	}
}
