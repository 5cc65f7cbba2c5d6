// Package up is the command annex up: from nothing to a working server.
package up

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/annex-api/annex/internal/cli/terminal"
	"github.com/annex-api/annex/kubeapiserver/launch"
)

const defaultPort = 6443

// Options of the command.
type Options struct {
	IO    terminal.IO
	Chain launch.Chain
	// Fatal ends the process when the embedded etcd cannot go on.
	Fatal func(error)

	DataDir     string
	Ephemeral   bool
	BindAddress net.IP
	Port        int
	Kubeconfig  string // "" means admin.kubeconfig in DataDir
	Demo        bool
	Quiet       bool
	Verbose     bool
	// ServerArgs are flags of kube-apiserver, which go before ours.
	ServerArgs []string

	dataDirSet, portSet bool
}

// New returns the command.
func New(streams terminal.IO, chain launch.Chain, fatal func(error)) *cobra.Command {
	o := &Options{IO: streams, Chain: chain, Fatal: fatal, DataDir: launch.DefaultDataDir(), BindAddress: net.IPv4(127, 0, 0, 1), Port: defaultPort}
	cmd := &cobra.Command{
		Use:   "up [flags] [-- kube-apiserver flags]",
		Short: "Start a server with everything it needs",
		Long: `Start an API server with everything it needs: certificates, etcd and a kubeconfig
are made in the data directory, kept, and used again by the next start.

The server listens on loopback only, unless told otherwise, and authorizes with RBAC.`,
		Example: `  # Keep the data in the default directory.
  annex up

  # Look around, and leave nothing behind.
  annex up --demo --ephemeral

  # Pass flags of kube-apiserver.
  annex up --port 7443 -- --enable-aggregator-routing=true --v=4`,
		Args: func(cmd *cobra.Command, args []string) error {
			n := cmd.ArgsLenAtDash()
			if n < 0 {
				n = len(args)
			}
			if n > 0 {
				return fmt.Errorf("unexpected argument %q; flags of kube-apiserver follow --", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			o.ServerArgs = args
			o.dataDirSet, o.portSet = cmd.Flags().Changed("data-dir"), cmd.Flags().Changed("port")
			if err := o.complete(); err != nil {
				return err
			}
			return o.run(cmd.Context())
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&o.DataDir, "data-dir", o.DataDir, "Folder for data, certificates and logs, made with mode 0700")
	fs.BoolVar(&o.Ephemeral, "ephemeral", false, "Use a temporary folder, removed at the end, and a free port unless --port is given")
	fs.IPVar(&o.BindAddress, "bind-address", o.BindAddress, "Address to listen on; 0.0.0.0 or :: for all")
	fs.IntVar(&o.Port, "port", o.Port, "Port to listen on; 0 takes a free one")
	fs.StringVar(&o.Kubeconfig, "kubeconfig", "", "File to write the admin's kubeconfig to; an existing one gains the context annex (default <data-dir>/admin.kubeconfig)")
	fs.BoolVar(&o.Demo, "demo", false, "Also start a small extension API server, and register it")
	fs.BoolVarP(&o.Quiet, "quiet", "q", false, "Print the kubeconfig's path and errors only")
	fs.BoolVar(&o.Verbose, "verbose", false, "Log to standard error instead of <data-dir>/server.log")
	return cmd
}

// complete sets what follows from other options, and checks them.
func (o *Options) complete() error {
	if o.Port < 0 || o.Port > 65535 {
		return fmt.Errorf("--port %d is not between 0 and 65535", o.Port)
	}
	if o.Ephemeral {
		if o.dataDirSet {
			return errors.New("--ephemeral takes a folder of its own; leave out --data-dir or --ephemeral")
		}
		if !o.portSet {
			o.Port = 0
		}
		dir, err := os.MkdirTemp("", "annex-")
		if err != nil {
			return fmt.Errorf("make a temporary folder (%w); set TMPDIR to a writable one", err)
		}
		o.DataDir = dir
	}
	if o.DataDir == "" {
		return nil // refused where it is claimed
	}
	abs, err := filepath.Abs(o.DataDir)
	if err != nil {
		return fmt.Errorf("find the absolute path of %q: %w", o.DataDir, err)
	}
	o.DataDir = abs
	return nil
}

func (o *Options) pkiDir() string  { return filepath.Join(o.DataDir, "pki") }
func (o *Options) logFile() string { return filepath.Join(o.DataDir, "server.log") }

// kubeconfig returns the path to write, and whether the user chose it.
func (o *Options) kubeconfig() (string, bool) {
	if o.Kubeconfig != "" {
		return o.Kubeconfig, true
	}
	return filepath.Join(o.DataDir, "admin.kubeconfig"), false
}
