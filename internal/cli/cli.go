// Package cli is the annex command line with all its verbs.
package cli

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/annex-api/annex/internal/cli/add"
	"github.com/annex-api/annex/internal/cli/conformance"
	"github.com/annex-api/annex/internal/cli/create"
	"github.com/annex-api/annex/internal/cli/demoserver"
	"github.com/annex-api/annex/internal/cli/dev"
	"github.com/annex-api/annex/internal/cli/program"
	"github.com/annex-api/annex/internal/cli/serve"
	"github.com/annex-api/annex/internal/cli/terminal"
	"github.com/annex-api/annex/internal/cli/tools"
	"github.com/annex-api/annex/internal/cli/up"
	"github.com/annex-api/annex/internal/cli/update"
	"github.com/annex-api/annex/internal/cli/version"
	"github.com/annex-api/annex/kubeapiserver"
	"github.com/annex-api/annex/kubeapiserver/launch"
)

// Main runs the command line that args, the program's name first, spell. It returns the exit code.
func Main(args []string, streams terminal.IO, chain launch.Chain) int {
	if err := kubeapiserver.RegisterFeatureGates(); err != nil {
		fmt.Fprintf(streams.Err, "annex: %s\n", program.Describe(err))
		return 1
	}
	return program.Run(New(filepath.Base(args[0]), streams, chain), args[1:], streams)
}

// New returns the command for a program of this name: kube-apiserver, or else annex.
func New(name string, streams terminal.IO, chain launch.Chain) *cobra.Command {
	fatal := func(err error) {
		fmt.Fprintf(streams.Err, "annex: %s\n", program.Describe(err))
		os.Exit(1)
	}
	var root *cobra.Command
	if name == "kube-apiserver" {
		root = serve.New(name, streams, chain, fatal) // it has a --version of its own
	} else {
		root = &cobra.Command{
			Use:   "annex",
			Short: "A Kubernetes API server with an aggregation layer that holds",
			Long: `Annex is a Kubernetes API server whose aggregation layer stays fast and correct
when extension API servers are slow, dead, hostile or rolling.

Start with "annex up": one command from nothing to a working server.`,
			Example: `  # A server with a demo extension API server, gone without a trace on Ctrl-C.
  annex up --demo --ephemeral

  # A server that keeps its data.
  annex up

  # In place of kube-apiserver, with its flags.
  annex serve --help

  # How do the servers behind APIServices fare, on this or any other cluster?
  annex status

  # What is wrong with them, and what to do?
  annex doctor

  # The project of an extension API server, with a kind of your own.
  annex new widgets --group widgets.example.com --kind Widget

  # Develop an extension API server: what is saved is built and served.
  annex dev

  # Does an extension API server keep the contract of the Kubernetes API?
  annex conformance --apiservice v1.example.com

  # Which extension server is at fault, in a browser.
  annex console --open`,
		}
		program.Verbs(root)
		root.AddCommand(
			up.New(streams, chain, fatal),
			serve.New("serve", streams, chain, fatal),
			create.New(streams),
			add.New(streams),
			update.New(streams),
			conformance.New(streams),
			dev.New(streams, launch.DefaultDataDir(), fatal),
			version.New(streams),
			demoserver.New(),
		)
		root.AddCommand(tools.Commands("annex", streams)...)
		program.OwnCommands(root)
	}
	program.Prepare(root, streams)
	return root
}
