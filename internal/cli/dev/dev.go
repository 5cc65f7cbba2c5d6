// Package dev is the command annex dev: it keeps the server of a project running while its files change.
package dev

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/annex-api/annex/internal/cli/terminal"
)

// Options of the command.
type Options struct {
	IO terminal.IO
	// Fatal ends the process when the embedded etcd cannot go on.
	Fatal func(error)
	// HostDataDir is where annex up keeps a host that may run already.
	HostDataDir string

	// Folder is where the command runs; empty: where we are.
	Folder     string
	Package    string
	Kubeconfig string
	Standalone bool
	Storage    string
	Port       int
	Verbose    bool
	// ServerArgs are further flags of the project's server.
	ServerArgs []string
}

// New returns the command. hostDataDir is the default data directory of annex up.
func New(streams terminal.IO, hostDataDir string, fatal func(error)) *cobra.Command {
	o := &Options{IO: streams, Fatal: fatal, HostDataDir: hostDataDir, Package: "."}
	cmd := &cobra.Command{
		Use:   "dev [flags] [-- flags of the project's server]",
		Short: "Run an extension API server, and swap it when a file is saved",
		Long: `Build and run the extension API server of a project, registered at a host. When a
file is saved it is built again: the new server starts beside the old one and takes
over once it is ready, without a request that fails. What does not build, or does not
get ready, is shown, and the old one goes on.

The project is a Go module whose main package calls extension.Main. The host is that
of --kubeconfig, or else an "annex up" that runs, or one that is started. Everything
is kept in .annex/ below the module, and Ctrl-C leaves nothing behind beside it.

Two servers share the storage during a swap. Unless --storage names one that they can
share, it is an etcd in .annex/, so the project links the driver of
github.com/annex-api/annex/extension/storage/etcd.`,
		Example: `  # In the folder of the project.
  annex dev

  # The main package is another one, and there is no host: only the project's own API.
  annex dev --package ./cmd/widgets --standalone

  # A cluster on this machine, and a database.
  annex dev --kubeconfig ~/.kube/config --storage postgres://me@localhost/widgets

  # Pass flags of the server.
  annex dev -- --v=4`,
		Args: func(cmd *cobra.Command, args []string) error {
			n := cmd.ArgsLenAtDash()
			if n < 0 {
				n = len(args)
			}
			if n > 0 {
				return fmt.Errorf("unexpected argument %q; --package names the main package, and flags of the server follow --", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			o.ServerArgs = args
			if err := o.validate(); err != nil {
				return err
			}
			return o.run(cmd.Context())
		},
	}
	fs := cmd.Flags()
	fs.StringVarP(&o.Folder, "folder", "C", "", "Folder of the project, in place of the one where the command runs")
	fs.StringVar(&o.Package, "package", o.Package, "Main package of the server, as go build takes it")
	fs.StringVar(&o.Kubeconfig, "kubeconfig", "", "Host to register at; it reaches this machine as localhost")
	fs.BoolVar(&o.Standalone, "standalone", false, "Serve without a host")
	fs.StringVar(&o.Storage, "storage", "", "URL of a storage that two servers can share; empty: an etcd in .annex/")
	fs.IntVar(&o.Port, "port", 0, "Port of the server on 127.0.0.1; 0 takes a free one")
	fs.BoolVar(&o.Verbose, "verbose", false, "Also show what a host that is started says beside warnings and errors")
	return cmd
}

func (o *Options) validate() error {
	if o.Standalone && o.Kubeconfig != "" {
		return errors.New("--standalone has no host; leave out --kubeconfig or --standalone")
	}
	if o.Port < 0 || o.Port > 65535 {
		return fmt.Errorf("--port %d is not between 0 and 65535", o.Port)
	}
	if o.Kubeconfig != "" {
		abs, err := filepath.Abs(o.Kubeconfig)
		if err != nil {
			return fmt.Errorf("find the absolute path of %q: %w", o.Kubeconfig, err)
		}
		if _, err := os.Stat(abs); err != nil {
			return fmt.Errorf("--kubeconfig: %w", err)
		}
		o.Kubeconfig = abs
	}
	return nil
}

// listen opens the socket that the servers inherit, as a file that stays as it is when they do:
// one from the net package is made blocking by each start, for those who share it too.
func listen(ctx context.Context, port int) (*os.File, *net.TCPAddr, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return nil, nil, fmt.Errorf("listen for the project's server: %w; choose another --port", err)
	}
	defer l.Close()
	tcp := l.(*net.TCPListener)
	file, err := plainFile(tcp)
	if err != nil {
		return nil, nil, fmt.Errorf("share the socket of the project's server: %w", err)
	}
	return file, tcp.Addr().(*net.TCPAddr), nil
}
