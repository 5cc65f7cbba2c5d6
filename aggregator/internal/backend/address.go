package backend

import (
	"context"
	"fmt"
	"net"
	"net/netip"
)

// awsMetadataV6 is a cloud metadata address outside the link-local range.
var awsMetadataV6 = netip.MustParseAddr("fd00:ec2::254")

// refuse returns an error for an address that no extension server may be at:
// link-local ones (where clouds keep instance credentials), multicast and
// unspecified ones.
func refuse(addr netip.Addr) error {
	addr = addr.Unmap().WithZone("")
	switch {
	case addr.IsLinkLocalUnicast(), addr == awsMetadataV6:
		return fmt.Errorf("refusing to connect to the link-local address %s", addr)
	case addr.IsMulticast():
		return fmt.Errorf("refusing to connect to the multicast address %s", addr)
	case addr.IsUnspecified():
		return fmt.Errorf("refusing to connect to the unspecified address %s", addr)
	}
	return nil
}

// guard wraps dial so that addresses that refuse rejects are never dialled.
// Names are resolved here and the first acceptable address is used, unless
// remoteNames says that dial resolves them elsewhere.
func guard(dial DialFunc, remoteNames bool) DialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, fmt.Errorf("reading the address %q: %w", address, err)
		}
		if ip, err := netip.ParseAddr(host); err == nil {
			if err := refuse(ip); err != nil {
				return nil, err
			}
			return dial(ctx, network, address)
		}
		if remoteNames {
			return dial(ctx, network, address)
		}
		ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		if err != nil {
			return nil, fmt.Errorf("resolving %s: %w", host, err)
		}
		// One address that is refused spoils the name: a name that points to a
		// metadata service must not work by luck of the order.
		for _, ip := range ips {
			if err := refuse(ip); err != nil {
				return nil, fmt.Errorf("%s: %w", host, err)
			}
		}
		lastErr := fmt.Errorf("resolving %s: no addresses", host)
		for _, ip := range ips {
			conn, err := dial(ctx, network, net.JoinHostPort(ip.Unmap().String(), port))
			if err == nil {
				return conn, nil
			}
			lastErr = err
		}
		return nil, lastErr
	}
}
