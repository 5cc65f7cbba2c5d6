package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/annex-api/annex/internal/cli/add"
	"github.com/annex-api/annex/internal/cli/conformance"
	"github.com/annex-api/annex/internal/cli/create"
	"github.com/annex-api/annex/internal/cli/dev"
	"github.com/annex-api/annex/internal/cli/terminal"
	scaffoldupdate "github.com/annex-api/annex/internal/cli/update"
)

const commandsPage = "docs/extend/commands.md"

// sdkCommands are those of annex that who writes an extension server needs.
func sdkCommands() *cobra.Command {
	annex, streams := &cobra.Command{Use: "annex"}, terminal.IO{}
	annex.AddCommand(create.New(streams), add.New(streams), scaffoldupdate.New(streams), dev.New(streams, "", nil), conformance.New(streams))
	return annex
}

func TestCommandsAreThoseOfTheCode(t *testing.T) {
	want, err := commands(sdkCommands())
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(filepath.Join("..", "..", filepath.FromSlash(commandsPage)), []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := fs.ReadFile(repository, commandsPage)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what --help says: run go test ./internal/docs -run Commands -update", commandsPage)
	}
	flags := 0
	var look func(c *cobra.Command)
	look = func(c *cobra.Command) {
		_, section, found := strings.Cut(want, "\n## "+c.CommandPath()+"\n")
		section, _, _ = strings.Cut(section, "\n## ")
		if c.HasParent() && !found {
			t.Errorf("%q is not in the page", c.CommandPath())
		}
		c.NonInheritedFlags().VisitAll(func(f *pflag.Flag) {
			if flags++; !strings.Contains(section, "--"+f.Name+" ") {
				t.Errorf("--%s is not told of %q", f.Name, c.CommandPath())
			}
		})
		for _, below := range c.Commands() {
			look(below)
		}
	}
	if look(sdkCommands()); flags < 40 {
		t.Errorf("only %d flags were found", flags)
	}
}

func TestCommandsSayWhatHelpSays(t *testing.T) {
	program := &cobra.Command{Use: "tool"}
	run := func(*cobra.Command, []string) {}
	grow := &cobra.Command{Use: "grow", Long: "Grow it. \n\nIt gets larger.", Run: run}
	grow.PersistentFlags().Int("by", 3, "How `much`")
	twice := &cobra.Command{Use: "twice", Short: "Grow it twice", Run: run}
	twice.Flags().Bool("fast", false, "At once")
	grow.AddCommand(twice)
	program.AddCommand(grow, &cobra.Command{Use: "secret", Hidden: true, Run: run})
	got, err := commands(program)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"## tool grow\n\n```\nGrow it.\n\nIt gets larger.\n\nUsage:\n", "--by much", "(default 3)",
		"## tool grow twice\n\n```\nGrow it twice\n", "--fast", "Global Flags:\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
	if strings.Contains(got, "secret") {
		t.Errorf("what is hidden is told:\n%s", got)
	}
}
