package flags

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/annex-api/annex/diagnosis"
	"github.com/annex-api/annex/internal/printable"
)

// maxShown bounds what is shown of an argument.
const maxShown = 100

// None is for a command that takes flags alone: it refuses arguments, and says where to read on.
func None(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return fmt.Errorf("unexpected argument %q; %s takes flags only, see %[2]s --help", printable.Line(args[0], maxShown), cmd.CommandPath())
}

// Verb is for a command that has others below it and does nothing itself: it refuses what none of
// them is called, and names the one that is called nearly so.
func Verb(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	typed := printable.Line(args[0], maxShown)
	if near := diagnosis.Nearest(typed, names); len(near) > 0 && len(typed) > 2 {
		return fmt.Errorf("unknown command %q; did you mean %s?", typed, near[0])
	}
	return fmt.Errorf("unknown command %q; see %s --help", typed, cmd.CommandPath())
}

// Topic is for help: what it is asked about must be there.
func Topic(cmd *cobra.Command, args []string) error {
	found, rest, err := cmd.Root().Find(args)
	switch {
	case err != nil:
		return err
	case len(rest) == 0:
		return nil
	case found.HasAvailableSubCommands():
		return Verb(found, rest)
	}
	return fmt.Errorf("there is no command %q below %s; see %[2]s --help", printable.Line(rest[0], maxShown), found.CommandPath())
}
