// Package cli is the annex command line: the root command, and the edge where an error becomes an
// exit code.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	cliflag "k8s.io/component-base/cli/flag"

	"github.com/annex-api/annex/internal/cli/add"
	"github.com/annex-api/annex/internal/cli/conformance"
	"github.com/annex-api/annex/internal/cli/console"
	"github.com/annex-api/annex/internal/cli/create"
	"github.com/annex-api/annex/internal/cli/demoserver"
	"github.com/annex-api/annex/internal/cli/dev"
	"github.com/annex-api/annex/internal/cli/flags"
	"github.com/annex-api/annex/internal/cli/serve"
	"github.com/annex-api/annex/internal/cli/status"
	"github.com/annex-api/annex/internal/cli/terminal"
	"github.com/annex-api/annex/internal/cli/up"
	"github.com/annex-api/annex/internal/cli/update"
	"github.com/annex-api/annex/internal/cli/version"
	"github.com/annex-api/annex/kubeapiserver"
	"github.com/annex-api/annex/kubeapiserver/launch"
)

// Main runs the command line that args, the program's name first, spell. It returns the exit code:
// 0, or 1, or what the error says, after one line on the error stream. The first SIGINT or SIGTERM ends the command
// gracefully, the second ends the process.
func Main(args []string, streams terminal.IO, chain launch.Chain) int {
	if err := kubeapiserver.RegisterFeatureGates(); err != nil {
		fmt.Fprintf(streams.Err, "annex: %s\n", describe(err))
		return 1
	}
	ctx, stop := signals(streams.Err)
	defer stop()
	cmd := New(filepath.Base(args[0]), streams, chain)
	cmd.SetArgs(args[1:])
	err := cmd.ExecuteContext(ctx)
	if errors.Is(err, errVersion) {
		fmt.Fprintln(streams.Out, version.Text())
		return 0
	}
	if err != nil {
		fmt.Fprintf(streams.Err, "%s: %s\n", cmd.Name(), describe(err))
		return exitCode(err)
	}
	return 0
}

func exitCode(err error) int {
	var coded interface{ ExitCode() int }
	if errors.As(err, &coded) {
		return coded.ExitCode()
	}
	return 1
}

// errVersion asks for the version in place of what the verb does.
var errVersion = errors.New("version wanted")

// New returns the command for a program of this name: kube-apiserver, or else annex.
func New(program string, streams terminal.IO, chain launch.Chain) *cobra.Command {
	fatal := func(err error) {
		fmt.Fprintf(streams.Err, "annex: %s\n", describe(err))
		os.Exit(1)
	}
	var (
		root        *cobra.Command
		showVersion bool
	)
	if program == "kube-apiserver" {
		root = serve.New(program, streams, chain, fatal)
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

  # The project of an extension API server, with a kind of your own.
  annex new widgets --group widgets.example.com --kind Widget

  # Develop an extension API server: what is saved is built and served.
  annex dev

  # Does an extension API server keep the contract of the Kubernetes API?
  annex conformance --apiservice v1.example.com

  # Which extension server is at fault, in a browser.
  annex console --open`,
			Args: knownVerb,
			RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
			PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
				if showVersion {
					return errVersion
				}
				return nil
			},
		}
		// Every verb takes it, but the help of the root shows it. serve has kube-apiserver's own.
		root.Flags().BoolVar(&showVersion, "version", false, "Print the version")
		root.PersistentFlags().BoolVar(&showVersion, "version", false, "Print the version")
		root.PersistentFlags().Lookup("version").Hidden = true
		root.AddCommand(
			up.New(streams, chain, fatal),
			serve.New("serve", streams, chain, fatal),
			create.New(streams),
			add.New(streams),
			update.New(streams),
			status.New("annex", streams),
			conformance.New(streams),
			console.New(streams),
			dev.New(streams, launch.DefaultDataDir(), fatal),
			version.New(streams),
			demoserver.New(),
		)
		ownCommands(root)
	}
	root.SetOut(streams.Out)
	root.SetErr(streams.Err)
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetGlobalNormalizationFunc(cliflag.WordSepNormalizeFunc)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return flags.Explain(cmd.Flags(), cmd.CommandPath(), err)
	})
	return root
}

// ownCommands gives the commands that cobra makes itself examples, as all have them.
func ownCommands(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "help":
			cmd.Example = "  annex help status"
		case "completion":
			cmd.Long = `Print a script that has a shell complete commands, flags, and names: those of
APIServices are asked of the API server, those of contexts are in the kubeconfig.`
			cmd.Example = `  # In this shell only.
  source <(annex completion bash)

  # In every bash to come, where the package bash-completion is installed.
  annex completion bash > ~/.local/share/bash-completion/completions/annex

  # In every zsh; "${fpath[1]}" is the first folder that it looks in.
  annex completion zsh > "${fpath[1]}/_annex"

  # In every fish.
  annex completion fish > ~/.config/fish/completions/annex.fish`
			for _, shell := range cmd.Commands() {
				shell.Example = completionExamples[shell.Name()]
			}
		}
	}
}

var completionExamples = map[string]string{
	"bash":       "  source <(annex completion bash)",
	"zsh":        `  annex completion zsh > "${fpath[1]}/_annex"`,
	"fish":       "  annex completion fish > ~/.config/fish/completions/annex.fish",
	"powershell": "  annex completion powershell | Out-String | Invoke-Expression",
}

// knownVerb explains an unknown verb.
func knownVerb(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		return fmt.Errorf("unknown command %q; did you mean %s?", args[0], strings.Join(near, " or "))
	}
	return fmt.Errorf("unknown command %q; see %s --help", args[0], cmd.CommandPath())
}

// together is how long after the first signal further ones belong to it: timeout(1), for example,
// signals a process and its group a few milliseconds apart.
const together = time.Second

// signals returns a context that the first signal ends; a second one, sent on its own, ends the process.
func signals(w io.Writer) (context.Context, func()) {
	ctx, cancel := context.WithCancel(context.Background())
	c := make(chan os.Signal, 2)
	signal.Notify(c, os.Interrupt, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		select {
		case <-c:
			cancel()
		case <-done:
			return
		}
		for first := time.Now(); ; {
			select {
			case <-c:
				if time.Since(first) < together {
					continue
				}
				fmt.Fprintln(w, "annex: stopped by a second signal")
				os.Exit(1)
			case <-done:
				return
			}
		}
	}()
	return ctx, func() {
		signal.Stop(c)
		close(done)
		cancel()
	}
}

// describe is one line.
func describe(err error) string {
	var lines []string
	for line := range strings.Lines(err.Error()) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	if errors.Is(err, context.Canceled) && len(lines) == 1 && lines[0] == context.Canceled.Error() {
		return "stopped before it was ready"
	}
	return strings.Join(lines, "; ")
}
