// Package tools is the part of the command line that looks at a cluster from outside, whoever's
// API server it has. It is all that kubectl-annex is, and stands without k8s.io/kubernetes.
package tools

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/annex-api/annex/internal/cli/console"
	"github.com/annex-api/annex/internal/cli/doctor"
	"github.com/annex-api/annex/internal/cli/flags"
	"github.com/annex-api/annex/internal/cli/program"
	"github.com/annex-api/annex/internal/cli/status"
	"github.com/annex-api/annex/internal/cli/terminal"
	"github.com/annex-api/annex/internal/cli/version"
)

// Commands are the tools. They are verbs of annex, and of kubectl annex: called says of which.
func Commands(called string, streams terminal.IO) []*cobra.Command {
	all := []*cobra.Command{
		status.New(called, streams),
		doctor.New(streams),
		console.New(streams),
	}
	for _, c := range all {
		atTheEdge(c)
	}
	return all
}

// Main runs the command line that args, the program's name first, spell. It returns the exit code.
func Main(args []string, streams terminal.IO) int {
	return program.Run(New(filepath.Base(args[0]), streams), args[1:], streams)
}

// New returns the root of a program that has the tools alone. Its name is the program's: called
// kubectl-annex, it is a plugin, and speaks of itself as kubectl annex.
func New(name string, streams terminal.IO) *cobra.Command {
	name = strings.TrimSuffix(name, ".exe")
	called := name
	if verb, plugin := strings.CutPrefix(name, "kubectl-"); plugin {
		called = "kubectl " + verb
	}
	root := &cobra.Command{
		Use:   name,
		Short: "Which extension API server is at fault, why, and what to do",
		Long: `Looks at the aggregated APIs of a cluster, whoever's API server it has: which
extension API server is at fault, why, and what to do.`,
		Example: `  # How do the servers behind APIServices fare?
  annex status

  # What is wrong, and what to do.
  annex doctor`,
		Annotations: map[string]string{cobra.CommandDisplayNameAnnotation: called},
	}
	program.Verbs(root)
	root.AddCommand(Commands(called, streams)...)
	root.AddCommand(version.New(streams))
	program.OwnCommands(root)
	program.Prepare(root, streams)
	rename(root, called)
	for _, c := range root.Commands() {
		if c.Name() == "completion" && called != name {
			c.Example = asPlugin
			c.AddCommand(forKubectl(name, called))
		}
	}
	return root
}

// asPlugin is how kubectl completes the words of its plugins.
const asPlugin = `  # A script as for any program.
  kubectl annex completion bash

  # For kubectl, which asks a program of this name, in a folder of the PATH.
  kubectl annex completion kubectl > ~/bin/kubectl_complete-annex
  chmod +x ~/bin/kubectl_complete-annex`

// forKubectl prints the program that kubectl asks to complete the words of a plugin.
func forKubectl(name, called string) *cobra.Command {
	verb := strings.TrimPrefix(name, "kubectl-")
	return &cobra.Command{
		Use:   "kubectl",
		Short: "Print the program that has kubectl complete the plugin's words",
		Long: `Print the program that kubectl asks to complete the words that follow the plugin's
name. It is to be in a folder of the PATH, executable, and called
kubectl_complete-` + verb + `; kubectl's own completion must be set up in the shell, too.`,
		Example: "  " + called + " completion kubectl > ~/bin/kubectl_complete-" + verb + "\n  chmod +x ~/bin/kubectl_complete-" + verb,
		Args:    flags.None,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "#!/bin/sh\nexec %s __complete \"$@\"\n", name)
			return err
		},
	}
}

// rename makes the examples of a command, and of those below it, call the program by its name.
func rename(c *cobra.Command, called string) {
	for _, before := range []string{"  ", "| ", "<("} {
		c.Example = strings.ReplaceAll(c.Example, before+"annex ", before+called+" ")
	}
	for _, below := range c.Commands() {
		rename(below, called)
	}
}
