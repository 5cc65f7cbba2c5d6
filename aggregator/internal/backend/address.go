package backend

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"github.com/annex-api/annex/aggregator/internal/catalog"
)

// refuse returns an error for an address that no extension server may be at.
func refuse(addr netip.Addr) error {
	if kind := catalog.RefusedAddress(addr); kind != "" {
		return fmt.Errorf("refusing to connect to the %s address %s", kind, addr.Unmap().WithZone(""))
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
