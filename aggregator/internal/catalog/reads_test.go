package catalog

import (
	"testing"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
)

func TestOnlyWhatDiscoveryListsIsKnownToRead(t *testing.T) {
	all := []string{"create", "get", "list", "watch"}
	known := Document{Discovery: &apidiscoveryv2.APIVersionDiscovery{Resources: []apidiscoveryv2.APIResourceDiscovery{
		{Resource: "reviews", Verbs: []string{"create"}},
		{Resource: "pages", Verbs: []string{"get"}},
		{Resource: "things", Verbs: all, Subresources: []apidiscoveryv2.APISubresourceDiscovery{
			{Subresource: "status", Verbs: all},
			{Subresource: "exec", Verbs: all},
			{Subresource: "proxy", Verbs: all},
			{Subresource: "log", Verbs: []string{"get"}},
			{Subresource: "vnc", Verbs: []string{"get"}},
		}},
		{Resource: "jobs", Verbs: all, Subresources: []apidiscoveryv2.APISubresourceDiscovery{{Subresource: "scale", Verbs: []string{"update"}}}},
	}}}
	for _, c := range []struct {
		resource, subresource, verb string
		want                        bool
	}{
		{"things", "", "get", true},
		{"things", "", "list", true},
		{"things", "", "watch", true},
		{"things", "", "create", false},
		{"things", "", "proxy", false},
		{"things", "", "", false},
		{"things", "status", "get", true},
		{"things", "scale", "get", false}, // not listed
		{"things", "exec", "get", false},
		{"things", "proxy", "get", false},
		{"things", "log", "get", false},
		{"things", "vnc", "get", false},
		{"things", "unlisted", "get", false},
		{"jobs", "scale", "get", false}, // listed, without get
		{"reviews", "", "get", false},
		{"pages", "", "get", true},
		{"pages", "", "list", false},
		{"unlisted", "", "get", false},
	} {
		if got := known.Reads(c.resource, c.subresource, c.verb); got != c.want {
			t.Errorf("%+v: %t", c, got)
		}
		if (Document{}).Reads(c.resource, c.subresource, c.verb) {
			t.Errorf("%+v is known to read before discovery is", c)
		}
	}
}
