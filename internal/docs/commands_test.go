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
	"github.com/annex-api/annex/internal/cli/tools"
	scaffoldupdate "github.com/annex-api/annex/internal/cli/update"
)

// commandsPage and toolsPage are looked up, and may be long.
const (
	commandsPage = "docs/extend/commands.md"
	toolsPage    = "docs/operate/commands.md"
)

// commandPages are made of what --help says.
var commandPages = []struct {
	path, title, more string
	program           func() *cobra.Command
	flags             int // how many there are at least
}{
	{
		commandsPage, "Commands of the SDK",
		"[The tutorial](tutorial.md) has them in use; [the reference](reference.md#flags) has the flags of a server.", sdkCommands, 40,
	},
	{
		toolsPage, "Commands of operators",
		"They are verbs of `annex`, and all that `kubectl annex` has. [Doctor](doctor.md) has them in use.", toolCommands, 20,
	},
}

// sdkCommands are those of annex that who writes an extension server needs.
func sdkCommands() *cobra.Command {
	annex, streams := &cobra.Command{Use: "annex"}, terminal.IO{}
	annex.AddCommand(create.New(streams), add.New(streams), scaffoldupdate.New(streams), dev.New(streams, "", nil), conformance.New(streams))
	return annex
}

// toolCommands are those that look at clusters from outside.
func toolCommands() *cobra.Command {
	annex := &cobra.Command{Use: "annex"}
	annex.AddCommand(tools.Commands("annex", terminal.IO{})...)
	return annex
}

func TestCommandsAreThoseOfTheCode(t *testing.T) {
	for _, page := range commandPages {
		t.Run(page.path, func(t *testing.T) {
			want, err := commands(page.program(), page.title, page.more)
			if err != nil {
				t.Fatal(err)
			}
			if *update {
				if err := os.WriteFile(filepath.Join("..", "..", filepath.FromSlash(page.path)), []byte(want), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			got, err := fs.ReadFile(repository, page.path)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != want {
				t.Errorf("%s is not what --help says: run go test ./internal/docs -run Commands -update", page.path)
			}
			if n := toldFlags(t, page.program(), want); n < page.flags {
				t.Errorf("only %d flags were found", n)
			}
		})
	}
}

// toldFlags sees that a page tells of each flag of a program, and counts them.
func toldFlags(t *testing.T, program *cobra.Command, page string) int {
	t.Helper()
	flags := 0
	var look func(c *cobra.Command)
	look = func(c *cobra.Command) {
		_, section, found := strings.Cut(page, "\n## "+c.CommandPath()+"\n")
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
	look(program)
	return flags
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
	got, err := commands(program, "Commands", "More.")
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
