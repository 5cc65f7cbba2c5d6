// Package namespace runs a program in a network of its own, in which nothing
// outside can be reached and any address of Network is this machine.
package namespace

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Address is an address inside; Enter makes all of Network, address/16, local.
// Kubernetes refuses loopback addresses as endpoints, and takes these.
const (
	Address = "10.77.0.1"
	Network = Address + "/16"
)

// endGrace is how long a program has to end its children when it is told to end.
const endGrace = time.Minute

// Run runs this program again, with other arguments, in a new network
// namespace; the new one must call Enter first. Without root it also needs a
// user namespace, which some systems forbid.
func Run(ctx context.Context, args ...string) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program's file: %w", err)
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = endGrace
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGTERM}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	if err := cmd.Start(); err != nil {
		if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EINVAL) {
			return fmt.Errorf("making a network namespace: %w: run this as root, or where unprivileged user namespaces are allowed (kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns)", err)
		}
		return fmt.Errorf("starting this program in a network namespace: %w", err)
	}
	return cmd.Wait()
}

// Enter brings up the loopback interface of the namespace that Run made, and
// gives it Network. It refuses to touch a network that is in use.
func Enter() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening a socket to set up the network: %w", err)
	}
	defer unix.Close(fd)
	up, err := unix.NewIfreq("lo")
	if err != nil {
		return fmt.Errorf("naming the loopback interface: %w", err)
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, up); err != nil {
		return fmt.Errorf("reading the state of the loopback interface: %w", err)
	}
	if up.Uint16()&unix.IFF_UP != 0 {
		return errors.New("the loopback interface is up: this is not a new network namespace")
	}
	up.SetUint16(up.Uint16() | unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, up); err != nil {
		return fmt.Errorf("bringing up the loopback interface: %w", err)
	}
	for _, set := range []struct {
		what    string
		request uint
		value   []byte
	}{
		{"address", unix.SIOCSIFADDR, []byte{10, 77, 0, 1}},
		{"mask", unix.SIOCSIFNETMASK, []byte{255, 255, 0, 0}},
	} {
		alias, err := unix.NewIfreq("lo:0")
		if err != nil {
			return fmt.Errorf("naming the loopback interface: %w", err)
		}
		if err := alias.SetInet4Addr(set.value); err != nil {
			return fmt.Errorf("encoding the %s of %s: %w", set.what, Network, err)
		}
		if err := unix.IoctlIfreq(fd, set.request, alias); err != nil {
			return fmt.Errorf("setting the %s of %s: %w", set.what, Network, err)
		}
	}
	return nil
}
