package cli_test

import (
	"io"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/annex-api/annex/internal/cli"
	"github.com/annex-api/annex/internal/cli/terminal"
	"github.com/annex-api/annex/internal/cli/tools"
	"github.com/annex-api/annex/kubeapiserver/launch"
)

// TestEveryCommandHasAnExample reads them all: an example names the command that it is of.
func TestEveryCommandHasAnExample(t *testing.T) {
	streams := terminal.IO{Out: io.Discard, Err: io.Discard}
	examplesOf(t, cli.New("annex", streams, launch.Server), 15)
	examplesOf(t, tools.New("kubectl-annex", streams), 5)
}

func examplesOf(t *testing.T, root *cobra.Command, least int) {
	t.Helper()
	seen := 0
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
		if cmd.Hidden {
			return
		}
		seen++
		if !strings.Contains(cmd.Example, cmd.CommandPath()) {
			t.Errorf("%s has no example of itself: %q", cmd.CommandPath(), cmd.Example)
		}
	}
	walk(root)
	if seen < least {
		t.Errorf("only %d commands were looked at", seen)
	}
}
