// Package demoserver is the hidden command annex demo-server: the extension API server that annex up
// --demo runs as a child.
package demoserver

import (
	"github.com/spf13/cobra"

	"github.com/annex-api/annex/examples/bulletin"
	"github.com/annex-api/annex/extension"
	"github.com/annex-api/annex/extension/storage/etcd"
)

// Name is the command's name.
const Name = "demo-server"

// New returns the command. It has the flags of every server on the SDK.
func New() *cobra.Command {
	return &cobra.Command{
		Use:                Name,
		Short:              "Run the demo extension API server",
		Hidden:             true,
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			err := extension.Run(cmd.Context(), "bulletin", args, cmd.ErrOrStderr(), bulletin.Notices, extension.Drivers(etcd.Driver()))
			if cmd.Context().Err() != nil {
				return nil // it was told to end, perhaps before it had begun
			}
			return err
		},
	}
}
