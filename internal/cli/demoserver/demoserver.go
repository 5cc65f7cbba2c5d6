// Package demoserver is the hidden command annex demo-server: the extension API server that annex up
// --demo runs as a child.
package demoserver

import (
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/spf13/cobra"

	"github.com/annex-api/annex/examples/bulletin"
)

// Name is the command's name.
const Name = "demo-server"

// New returns the command.
func New() *cobra.Command {
	var o bulletin.Options
	var fd uint
	cmd := &cobra.Command{
		Use:    Name,
		Short:  "Run the demo extension API server",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if fd != 0 {
				l, err := inherited(uintptr(fd))
				if err != nil {
					return err
				}
				o.Listener = l
			}
			if err := o.Validate(); err != nil {
				return err
			}
			return bulletin.Run(cmd.Context(), o)
		},
	}
	o.AddFlags(cmd.Flags())
	cmd.Flags().UintVar(&fd, "listen-fd", 0, "File descriptor of a listening TCP socket to serve on, in place of --bind-address and --secure-port.")
	return cmd
}

// inherited takes over a listening socket that the parent opened.
func inherited(fd uintptr) (net.Listener, error) {
	f := os.NewFile(fd, "listener")
	if f == nil {
		return nil, fmt.Errorf("--listen-fd %d is not an open file", fd)
	}
	l, err := net.FileListener(f)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("--listen-fd %d is not a listening socket: %w", fd, err), f.Close())
	}
	return l, f.Close()
}
