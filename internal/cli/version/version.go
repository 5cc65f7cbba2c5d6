// Package version is the command annex version.
package version

import (
	"fmt"

	"github.com/spf13/cobra"
	baseversion "k8s.io/component-base/version"

	"github.com/annex-api/annex/internal/cli/flags"
	"github.com/annex-api/annex/internal/cli/terminal"
	"github.com/annex-api/annex/kubeapiserver/version"
)

// New returns the command.
func New(streams terminal.IO) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: "  annex version",
		Args:    flags.None,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(streams.Out, Text())
			return err
		},
	}
}

// Text is one line with every version.
func Text() string {
	v := baseversion.Get()
	return fmt.Sprintf("annex %s (Kubernetes %s, commit %s, %s, %s)", version.Annex, v.GitVersion, v.GitCommit, v.GoVersion, v.Platform)
}
