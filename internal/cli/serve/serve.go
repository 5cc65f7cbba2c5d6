// Package serve is the command annex serve, and the program kube-apiserver.
package serve

import (
	"fmt"

	"github.com/spf13/cobra"
	cliflag "k8s.io/component-base/cli/flag"
	"k8s.io/component-base/term"
	"k8s.io/component-base/version/verflag"

	"github.com/annex-api/annex/internal/cli/terminal"
	"github.com/annex-api/annex/kubeapiserver/launch"
	"github.com/annex-api/annex/kubeapiserver/version"
)

// Options of the command.
type Options struct {
	*launch.Options
}

// New returns the command. Name is serve, or kube-apiserver for the program of that name. Fatal ends
// the process when the embedded etcd cannot go on.
func New(name string, streams terminal.IO, chain launch.Chain, fatal func(error)) *cobra.Command {
	o := &Options{Options: launch.New(name, chain)}
	o.Fatal = fatal
	cmd := &cobra.Command{
		Use:   name,
		Short: "Run the API server with kube-apiserver's flags",
		Long: `Run kube-apiserver ` + version.Kubernetes + ` with the Annex aggregation layer in its place.

Every flag of kube-apiserver is accepted. Without --etcd-servers an etcd runs in
the same process and keeps its data below --data-dir, closed to everyone else.`,
		Example: fmt.Sprintf(`  # In place of kube-apiserver, with its flags.
  %[1]s --etcd-servers=https://127.0.0.1:2379 --service-cluster-ip-range=10.96.0.0/12 ...

  # With etcd in the same process.
  %[1]s --data-dir=/var/lib/annex --cert-dir=/var/lib/annex-certs --secure-port=6443 \
    --service-account-issuer=https://kubernetes.default.svc \
    --service-account-key-file=sa.pub --service-account-signing-key-file=sa.key`, program(name)),
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("unexpected argument %q; %s takes flags only", args[0], cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			verflag.PrintAndExitIfRequested()
			if err := o.Prepare(cmd.Flags()); err != nil {
				return err
			}
			return o.Run(cmd.Context())
		},
	}
	o.AddFlags(cmd.Flags())
	cols, _, _ := term.TerminalSize(streams.Out)
	setHelp(cmd, o.Sections(), cols)
	return cmd
}

func program(name string) string {
	if name == "serve" {
		return "annex serve"
	}
	return name
}

// setHelp prints flags by section, as kube-apiserver does.
func setHelp(cmd *cobra.Command, sections cliflag.NamedFlagSets, cols int) {
	cmd.SetUsageFunc(func(cmd *cobra.Command) error {
		w := cmd.OutOrStderr()
		fmt.Fprintf(w, "Usage:\n  %s\n", cmd.UseLine())
		cliflag.PrintSections(w, sections, cols)
		return nil
	})
	cmd.SetHelpFunc(func(cmd *cobra.Command, _ []string) {
		w := cmd.OutOrStdout()
		fmt.Fprintf(w, "%s\n\nUsage:\n  %s\n\nExamples:\n%s\n", cmd.Long, cmd.UseLine(), cmd.Example)
		cliflag.PrintSections(w, sections, cols)
	})
}
