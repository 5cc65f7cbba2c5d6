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
		// Metadata services elsewhere.
		"fd20:ce::254": "link-local", "fd20:ce::254%eth0": "link-local", "fd20:ce::255": "", "fd20::1": "", "fd00:ec2::23": "link-local",
		"fd00:c1::a9fe:a9fe": "link-local", "fd00:42::42": "link-local", "100.100.100.200": "link-local", "100.100.100.201": "",
		"168.63.129.16": "link-local", "168.63.129.17": "", "192.0.0.192": "link-local",
		// NAT64, by its well-known prefix and by those of one's own.
		"64:ff9b::169.254.169.254": "link-local", "64:ff9b::a9fe:1": "link-local", "64:ff9b::100.100.100.200": "link-local",
		"64:ff9b::224.0.0.1": "multicast", "64:ff9b::": "unspecified", "64:ff9b::10.0.0.1": "", "64:ff9b::127.0.0.1": "",
		"64:ff9b:1::169.254.169.254": "link-local", "64:ff9b:1:2:3:4:169.254.169.254": "link-local", "64:ff9b:1::224.0.0.1": "multicast",
		"64:ff9b:1:a9fe:a9:fe00::": "link-local", "64:ff9b:1:a9:fe:a9fe::": "link-local", "64:ff9b:1::a9:fea9:fe00:0": "link-local",
		"64:ff9b:1:a00:0:100::": "", "64:ff9b:1::10.0.0.1": "", "64:ff9b:2::169.254.169.254": "",
		// Other forms that carry an IPv4 address.
		"::169.254.169.254": "link-local", "::10.0.0.1": "", "::ffff:0:169.254.169.254": "link-local", "::ffff:0:10.0.0.1": "",
		"2002:a9fe:a9fe::1": "link-local", "2002:e000:1::": "multicast", "2002::1": "unspecified", "2002:a00:1::1": "", "2002:c000:201::a9fe:a9fe": "",
		"2001:0:c000:201::5601:5601": "link-local", "2001:0:a9fe:a9fe::f5ff:fffe": "link-local", "2001:0:c000:201::f5ff:fffe": "", "2001:1::5601:5601": "",
		"2001:db8::5efe:169.254.169.254": "link-local", "2001:db8::200:5efe:169.254.169.254": "link-local", "2001:db8::5efe:10.0.0.1": "",
		"2001:db8::169.254.169.254": "", "fd00::169.254.169.254": "",

		"0.0.0.0": "unspecified", "::": "unspecified", "::ffff:0.0.0.0": "unspecified",
	} {
		if got := catalog.RefusedAddress(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s: %q, want %q", address, got, want)
		}
	}
}
