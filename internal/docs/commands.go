package docs

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// commands is a page with what --help says of each command of a program, those below
// commands included. It has a title, and says where to read on.
func commands(program *cobra.Command, title, more string) (string, error) {
	var out strings.Builder
	out.WriteString("# " + title + "\n\n" +
		"What `--help` says. `go test ./internal/docs -run Commands -update` writes it anew.\n\n" + more + "\n")
	for _, c := range program.Commands() {
		if err := describe(&out, c); err != nil {
			return "", err
		}
	}
	return out.String(), nil
}

// describe writes what a command says of itself, and then those below it.
func describe(out *strings.Builder, c *cobra.Command) error {
	if !c.IsAvailableCommand() {
		return nil
	}
	var help strings.Builder
	c.SetOut(&help)
	c.InitDefaultHelpFlag()
	if err := c.Help(); err != nil {
		return fmt.Errorf("%s --help: %w", c.CommandPath(), err)
	}
	fmt.Fprintf(out, "\n## %s\n\n```\n", c.CommandPath())
	for line := range strings.Lines(strings.TrimSpace(help.String())) {
		out.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
	out.WriteString("```\n")
	for _, below := range c.Commands() {
		if err := describe(out, below); err != nil {
			return err
		}
	}
	return nil
}
