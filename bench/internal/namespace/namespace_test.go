package namespace

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
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
	return nil
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
