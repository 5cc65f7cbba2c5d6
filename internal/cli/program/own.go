package program

import (
	"github.com/spf13/cobra"

	"github.com/annex-api/annex/internal/cli/flags"
)

// OwnCommands gives the commands that cobra makes itself examples, as all have them, and has them refuse
// what they do not know.
func OwnCommands(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "help":
			cmd.Example, cmd.Args = "  annex help status", flags.Topic
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
			cmd.Args = flags.Verb
			cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
			for _, shell := range cmd.Commands() {
				shell.Example, shell.Args = completionExamples[shell.Name()], flags.None
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
