package extensiontest

import (
	"slices"
	"testing"

	"github.com/annex-api/annex/extension/extensiontest/conformance"
)

func TestChecksThatShouldApplyAreMissed(t *testing.T) {
	left := func(id string, unmet conformance.Need) conformance.Result {
		return conformance.Result{Check: conformance.Check{ID: id}, Unmet: unmet, Reason: "why"}
	}
	slow := left("watch/slow-reader", "")
	slow.Check.Slow = true
	results := []conformance.Result{
		{Check: conformance.Check{ID: "list/labels"}, Outcome: conformance.Passed},
		left("watch/from-rv", conformance.Watchable),
		left("openapi/comments", conformance.Schema),
		left("create/exists", conformance.Writable),
		left("status/isolated", conformance.StatusSubresource),
		left("scale/get-put", conformance.ScaleSubresource),
		left("versions/round-trip", conformance.SeveralVersions),
		left("apply/create", ""),
		left("authz/list", conformance.SecondUser),
		left("authz/anonymous", conformance.Direct),
		left("stream/long", conformance.StreamPath),
		left("storage/down", conformance.StorageSwitch),
		left("tls/bundle-restored", conformance.IntrusiveAllowed),
		left("tls/registration", conformance.APIService),
		left("admission/policy", conformance.Namespaces),
		slow,
	}
	for _, c := range []struct {
		name                string
		notApplicable, want []string
	}{
		{"nothing is named", nil, []string{"watch/from-rv should apply: why", "openapi/comments should apply: why"}},
		{"some are", []string{"watch/*", "openapi/comments", string(conformance.Writable), "versions/*"}, []string{
			"status/isolated should apply: why", "scale/get-put should apply: why", "apply/create should apply: why",
		}},
		{"all are, and one applies", []string{"watch/*", "openapi/*", "create/*", "status/*", "scale/*", "versions/*", "apply/*", "list/*"}, nil},
		{"a misspelt one", []string{"whatch/*"}, []string{
			`no check is called "whatch/*", and none needs it`, "watch/from-rv should apply: why", "openapi/comments should apply: why", "create/exists should apply: why",
			"status/isolated should apply: why", "scale/get-put should apply: why", "versions/round-trip should apply: why", "apply/create should apply: why",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := unchecked(results, c.notApplicable); !slices.Equal(got, c.want) {
				t.Errorf("got %q,\nwant %q", got, c.want)
			}
		})
	}
}
