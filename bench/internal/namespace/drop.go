package namespace

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"
)

const (
	table = "annex_faults"
	// Where Debian puts it, which is not on everybody's path.
	systemNft = "/usr/sbin/nft"
)

// CanDrop errs where packets cannot be dropped: where the program nft is
// missing, an error that is exec.ErrNotFound, or where the kernel refuses.
func CanDrop(ctx context.Context) error {
	return nft(ctx, "add table ip "+table, "delete table ip "+table)
}

// Drop makes every packet from and to an address of Network vanish, those of
// connections that stand too, until Restore. Nobody is told: senders get
// neither an error nor a reset.
func Drop(ctx context.Context, address string) error {
	ip, err := netip.ParseAddr(address)
	if err != nil || !netip.MustParsePrefix(Network).Masked().Contains(ip) {
		return fmt.Errorf("dropping the packets of %q: not an address of %s", address, Network)
	}
	// A packet that is dropped on its way out is an error for its sender.
	chain := "ip " + table + " input"
	return nft(ctx,
		"add table ip "+table,
		"add chain "+chain+" { type filter hook input priority 0; policy accept; }",
		"add rule "+chain+" ip saddr "+ip.String()+" drop",
		"add rule "+chain+" ip daddr "+ip.String()+" drop",
	)
}

// Restore ends what every Drop began. It may be called when there was none.
func Restore(ctx context.Context) error {
	return nft(ctx, "add table ip "+table, "delete table ip "+table)
}

// nft runs commands: all of them or none.
func nft(ctx context.Context, commands ...string) error {
	if err := inside(); err != nil {
		return err
	}
	path, err := exec.LookPath("nft")
	if err != nil {
		path, err = exec.LookPath(systemNft)
	}
	if err != nil {
		return fmt.Errorf("looking for nft, of the package nftables: %w", exec.ErrNotFound)
	}
	cmd := exec.CommandContext(ctx, path, "-f", "-")
	cmd.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\n")
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("setting what packets are dropped: %w: %s", err, bytes.TrimSpace(output))
	}
	return nil
}

// inside errs unless the network is one that Enter has set up.
func inside() error {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return fmt.Errorf("listing the addresses of this network: %w", err)
	}
	ours := false
	for _, a := range addresses {
		prefix, err := netip.ParsePrefix(a.String())
		switch {
		case err == nil && prefix.String() == Network:
			ours = true
		case err != nil || !prefix.Addr().IsLoopback():
			return fmt.Errorf("%s is an address here: this is not a network namespace of its own", a)
		}
	}
	if !ours {
		return errors.New("this is not a network namespace that was set up")
	}
	return nil
}
