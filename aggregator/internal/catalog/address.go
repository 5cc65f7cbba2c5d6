package catalog

import "net/netip"

// awsMetadataV6 is a cloud metadata address outside the link-local range.
var awsMetadataV6 = netip.MustParseAddr("fd00:ec2::254")

// RefusedAddress says of what kind an address is that no extension server may be at:
// link-local, where clouds keep instance credentials, multicast or unspecified. It is
// empty for any other.
func RefusedAddress(addr netip.Addr) (kind string) {
	addr = addr.Unmap().WithZone("")
	switch {
	case addr.IsLinkLocalUnicast(), addr == awsMetadataV6:
		return "link-local"
	case addr.IsMulticast():
		return "multicast"
	case addr.IsUnspecified():
		return "unspecified"
	}
	return ""
}
