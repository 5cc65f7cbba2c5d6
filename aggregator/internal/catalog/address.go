package catalog

import (
	"net/netip"
	"slices"
)

// metadataAddresses are those of cloud metadata services outside the link-local range.
var metadataAddresses = []netip.Prefix{
	netip.MustParsePrefix("fd00:ec2::/32"),          // AWS: metadata, credentials of Pods, names, time
	netip.MustParsePrefix("fd20:ce::254/128"),       // Google Cloud
	netip.MustParsePrefix("fd00:c1::a9fe:a9fe/128"), // Oracle Cloud
	netip.MustParsePrefix("fd00:42::42/128"),        // Scaleway
	netip.MustParsePrefix("100.100.100.200/32"),     // Alibaba Cloud
	netip.MustParsePrefix("168.63.129.16/32"),       // Azure
	netip.MustParsePrefix("192.0.0.192/32"),         // Oracle Cloud, classic
}

// RefusedAddress says of what kind an address is that no extension server may be at:
// link-local, where clouds keep instance credentials, with their addresses elsewhere;
// multicast; or unspecified. It is empty for any other. An IPv6 address that carries an
// IPv4 one, for a translator or a tunnel, is of that one's kind.
func RefusedAddress(addr netip.Addr) (kind string) {
	addr = addr.Unmap().WithZone("")
	isMetadata := func(p netip.Prefix) bool { return p.Contains(addr) }
	switch {
	case addr.IsLinkLocalUnicast(), slices.ContainsFunc(metadataAddresses, isMetadata):
		return "link-local"
	case addr.IsMulticast():
		return "multicast"
	case addr.IsUnspecified():
		return "unspecified"
	case addr.Is4():
		return ""
	}
	bytes := addr.As16()
	for _, e := range embeddings {
		if !e.prefix.Contains(addr) {
			continue
		}
		for _, at := range e.at {
			kind := RefusedAddress(at.read(bytes))
			if kind != "" && (kind != "unspecified" || len(e.at) == 1) {
				return kind
			}
		}
	}
	if interfaceID := [4]byte(bytes[8:12]); interfaceID == isatap || interfaceID == isatapGlobal {
		return RefusedAddress(last4.read(bytes))
	}
	return ""
}

// embeddings are the forms of IPv6 addresses that carry an IPv4 one. Where it may be at
// several places each counts, but for zeros, which are at those that are not used.
var embeddings = []struct {
	prefix netip.Prefix
	at     []place
}{
	{netip.MustParsePrefix("::/96"), []place{last4}},           // IPv4-compatible (RFC 4291)
	{netip.MustParsePrefix("::ffff:0:0:0/96"), []place{last4}}, // IPv4-translated (RFC 2765)
	{netip.MustParsePrefix("64:ff9b::/96"), []place{last4}},    // NAT64 (RFC 6052)
	{netip.MustParsePrefix("64:ff9b:1::/48"), []place{ // NAT64 of one's own, of any length (RFC 8215)
		last4, {at: [4]int{6, 7, 9, 10}}, {at: [4]int{7, 9, 10, 11}}, {at: [4]int{9, 10, 11, 12}},
	}},
	{netip.MustParsePrefix("2002::/16"), []place{{at: [4]int{2, 3, 4, 5}}}},                   // 6to4 (RFC 3056)
	{netip.MustParsePrefix("2001::/32"), []place{{at: [4]int{4, 5, 6, 7}}, {last4.at, true}}}, // Teredo: server, client (RFC 4380)
}

// The interface identifiers of ISATAP begin so (RFC 5214).
var isatap, isatapGlobal = [4]byte{0, 0, 0x5e, 0xfe}, [4]byte{2, 0, 0x5e, 0xfe}

// place is where in an IPv6 address an IPv4 one is, by bytes, and whether its bits are
// inverted there.
type place struct {
	at       [4]int
	inverted bool
}

var last4 = place{at: [4]int{12, 13, 14, 15}}

func (p place) read(from [16]byte) netip.Addr {
	var v4 [4]byte
	for i, at := range p.at {
		v4[i] = from[at]
		if p.inverted {
			v4[i] ^= 0xff
		}
	}
	return netip.AddrFrom4(v4)
}
