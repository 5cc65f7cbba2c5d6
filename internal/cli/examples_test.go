package cli_test

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/annex-api/annex/internal/cli"
	"github.com/annex-api/annex/internal/cli/terminal"
	"github.com/annex-api/annex/internal/cli/tools"
	"github.com/annex-api/annex/kubeapiserver/launch"
)

// TestEveryCommandHasAnExample reads what --help prints of all commands of all programs: each shows
// an example, which names the command that it is of.
func TestEveryCommandHasAnExample(t *testing.T) {
	streams := terminal.IO{Out: io.Discard, Err: io.Discard}
	examplesOf(t, cli.New("annex", streams, launch.Server), 20)
	examplesOf(t, cli.New("kube-apiserver", streams, launch.Server), 1)
	examplesOf(t, tools.New("kubectl-annex", streams), 10)
	examplesOf(t, tools.New("annex-tools", streams), 9)
}

func examplesOf(t *testing.T, root *cobra.Command, least int) {
	t.Helper()
	seen := 0
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
		if cmd.Hidden { // it is for annex itself to run
			return
		}
		seen++
		var help bytes.Buffer
		cmd.SetOut(&help)
		if err := cmd.Help(); err != nil {
			t.Errorf("%s --help: %v", cmd.CommandPath(), err)
		}
		_, after, shown := strings.Cut(help.String(), "\nExamples:\n")
		examples, _, _ := strings.Cut(after, "\n\nAvailable Commands:\n")
		if examples, _, _ = strings.Cut(examples, "\n\nFlags:\n"); !shown || !strings.Contains(examples, cmd.CommandPath()) {
			t.Errorf("%s --help shows no example of itself:\n%s", cmd.CommandPath(), &help)
		}
	}
	walk(root)
	if seen < least {
		t.Errorf("only %d commands were looked at", seen)
	}
}
