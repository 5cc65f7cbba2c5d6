package namespace

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// insideArgument makes the test program what runs in the namespace.
const insideArgument = "inside-the-namespace"

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == insideArgument {
		if err := look(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// look checks the network that Enter sets up.
func look() error {
	if err := Enter(); err != nil {
		return err
	}
	for _, address := range []string{"127.0.0.1:0", Address + ":0", "10.77.200.3:0"} {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			return err
		}
		conn, err := net.DialTimeout("tcp", listener.Addr().String(), 10*time.Second)
		if err := errors.Join(err, listener.Close()); err != nil {
			return err
		}
		if err := conn.Close(); err != nil {
			return err
		}
	}
	// A documentation address: if it could be reached, so could anything.
	conn, err := net.DialTimeout("tcp", "192.0.2.1:80", 10*time.Second)
	if err == nil {
		return errors.Join(errors.New("the outside was reached"), conn.Close())
	}
	if !errors.Is(err, syscall.ENETUNREACH) {
		return fmt.Errorf("the outside is not unreachable: %w", err)
	}
	return lose(context.Background())
}

// lose checks that packets of one address vanish and those of others do not.
func lose(ctx context.Context) error {
	if err := CanDrop(ctx); err != nil {
		if errors.Is(err, exec.ErrNotFound) && !strings.Contains(err.Error(), "nftables") {
			return fmt.Errorf("an error without a remedy: %w", err)
		}
		return nil // Not on this machine.
	}
	const lost, kept = "10.77.200.3", "10.77.200.4"
	conns := map[string]net.Conn{}
	listeners := map[string]net.Listener{}
	for _, host := range []string{lost, kept} {
		listener, err := net.Listen("tcp", host+":0")
		if err != nil {
			return err
		}
		defer listener.Close()
		listeners[host] = listener
		if conns[host], err = net.DialTimeout("tcp", listener.Addr().String(), 10*time.Second); err != nil {
			return err
		}
		defer conns[host].Close()
		accepted, err := listener.Accept()
		if err != nil {
			return err
		}
		defer accepted.Close()
		go echo(accepted)
	}
	if err := Drop(ctx, lost); err != nil {
		return err
	}
	const silence = 300 * time.Millisecond
	if err := ping(conns[lost], silence); !errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("a connection that stood got %v, want silence", err)
	}
	var timeout net.Error
	if _, err := net.DialTimeout("tcp", listeners[lost].Addr().String(), silence); !errors.As(err, &timeout) || !timeout.Timeout() {
		return fmt.Errorf("a new connection got %v, want silence", err)
	}
	if err := ping(conns[kept], 10*time.Second); err != nil {
		return fmt.Errorf("another address was cut off: %w", err)
	}
	if err := errors.Join(Restore(ctx), Restore(ctx)); err != nil {
		return err
	}
	conn, err := net.DialTimeout("tcp", listeners[lost].Addr().String(), 10*time.Second)
	if err != nil {
		return fmt.Errorf("after the end: %w", err)
	}
	return conn.Close()
}

func echo(conn net.Conn) { _, _ = io.Copy(conn, conn) }

func ping(conn net.Conn, limit time.Duration) error {
	if err := conn.SetDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("x")); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, make([]byte, 1))
	return err
}

func TestTheNamespaceHasItsAddressesAndNoOutside(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := Run(ctx, insideArgument)
	if errors.Is(err, syscall.EPERM) {
		// Here none may be made; then the reader is told what to do.
		if !strings.Contains(err.Error(), "as root") {
			t.Errorf("an error without a remedy: %v", err)
		}
		return
	}
	if err != nil {
		t.Error(err)
	}
}

func TestNoPacketsOfOthersAreDropped(t *testing.T) {
	for _, address := range []string{"10.77.1.1", "192.0.2.1", "127.0.0.1", "::1", "10.77.1.1 accept; drop", ""} {
		err := Drop(t.Context(), address)
		if err == nil || !strings.Contains(err.Error(), "not a") {
			t.Errorf("%q: got %v", address, err)
		}
	}
	if err := errors.Join(CanDrop(t.Context()), Restore(t.Context())); err == nil {
		t.Error("the network of this machine may be changed")
	}
}

func TestANetworkInUseIsLeftAlone(t *testing.T) {
	before, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	if err := Enter(); err == nil || !strings.Contains(err.Error(), "not a new network namespace") {
		t.Errorf("got %v", err)
	}
	after, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	if a, b := fmt.Appendln(nil, before), fmt.Appendln(nil, after); !bytes.Equal(a, b) {
		t.Errorf("addresses were %s, are %s", a, b)
	}
}
