package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"github.com/annex-api/annex/bench/internal/fixture"
	"github.com/annex-api/annex/bench/internal/pki"
	"github.com/annex-api/annex/bench/internal/process"
)

// Bare is what the bare proxy is started with. Dir must exist and be empty.
type Bare struct {
	Name  string
	Path  string // the binary
	Dir   string
	Files pki.Files
	Port  int // of the extension server
}

// StartBare starts the bare proxy in front of the first APIService's extension
// server. It is a host for works through the layer alone: it has no objects.
func StartBare(ctx context.Context, b Bare) (_ *Host, err error) {
	h := &Host{}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.Stop())
		}
	}()
	socket, port, err := Socket()
	if err != nil {
		return nil, err
	}
	defer socket.Close()
	h.URL = "https://127.0.0.1:" + strconv.Itoa(port)
	if h.Client, err = newClient(b.Files); err != nil {
		return nil, err
	}
	h.Server, err = process.Start(process.Command{
		Name: b.Name, Path: b.Path, Log: filepath.Join(b.Dir, "server.log"), Files: []*os.File{socket},
		Args: []string{
			"-listen-fd=3", "-cert=" + b.Files.Server, "-key=" + b.Files.ServerKey,
			"-backend=127.0.0.1:" + strconv.Itoa(b.Port), "-backend-name=" + fixture.ServerName(0), "-backend-ca=" + b.Files.CA,
			"-backend-cert=" + b.Files.Proxy, "-backend-key=" + b.Files.ProxyKey,
		},
	})
	if err != nil {
		return nil, err
	}
	if _, err := h.Get(ctx, fixture.Path(0)+"/one", nil); err != nil {
		return nil, fmt.Errorf("asking %s: %w", b.Name, err)
	}
	return h, nil
}

// Socket is a listening socket on a free port of the loopback, for a process that
// inherits it: nobody needs to wait until it listens.
func Socket() (_ *os.File, port int, err error) {
	listener, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, 0, fmt.Errorf("listening on a free port: %w", err)
	}
	defer func() { err = errors.Join(err, listener.Close()) }()
	file, err := listener.File()
	if err != nil {
		return nil, 0, fmt.Errorf("copying a socket for a process: %w", err)
	}
	return file, listener.Addr().(*net.TCPAddr).Port, nil
}
