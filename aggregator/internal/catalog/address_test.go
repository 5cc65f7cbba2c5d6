package catalog_test

import (
	"net/netip"
	"testing"

	"github.com/annex-api/annex/aggregator/internal/catalog"
)

func TestRefusedAddresses(t *testing.T) {
	for address, want := range map[string]string{
		"10.0.0.1": "", "127.0.0.1": "", "::1": "", "fd00::1": "", "192.0.2.1": "", "2001:db8::1": "", "100.64.0.1": "",
		"169.254.169.254": "link-local", "169.254.0.1": "link-local", "fe80::1": "link-local", "fe80::1%eth0": "link-local",
		"::ffff:169.254.169.254": "link-local", "fd00:ec2::254": "link-local", "fd00:ec2::254%1": "link-local",
		"224.0.0.1": "multicast", "239.1.1.1": "multicast", "ff02::1": "multicast", "ff05::2": "multicast", "::ffff:224.0.0.1": "multicast",
		"0.0.0.0": "unspecified", "::": "unspecified", "::ffff:0.0.0.0": "unspecified",
	} {
		if got := catalog.RefusedAddress(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s: %q, want %q", address, got, want)
		}
	}
}
