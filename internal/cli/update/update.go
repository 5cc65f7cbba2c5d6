// Package update is the command annex update: it brings a project to the newest scaffold.
package update

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/annex-api/annex/internal/cli/flags"
	"github.com/annex-api/annex/internal/cli/gocommand"
	"github.com/annex-api/annex/internal/cli/terminal"
	"github.com/annex-api/annex/internal/scaffold"
)

// Options of the command.
type Options struct {
	IO terminal.IO

	Dir, AnnexSource, ToCRD string
	Plan, SkipTidy          bool
}

// New returns the command.
func New(streams terminal.IO) *cobra.Command {
	o := &Options{IO: streams}
	cmd := &cobra.Command{
		Use:   "update",
		Short: "Bring a project to the newest scaffold",
		Long: `Bring a project that annex new made to the scaffold and the version of this annex. What
the scaffold changed is merged into what was written by hand. Where both changed the same
lines, both stand between marks, as git has them, and the exit code is 1.

Commit before: then git diff shows what was done, and git checkout takes it back.

With --to-crd, the kinds are written as CustomResourceDefinitions, and nothing else is
done: their types can be custom resources as well.`,
		Example: `  # What it would do.
  annex update --plan

  annex update

  # The kinds as custom resources.
  annex update --to-crd crds.yaml`,
		Args: flags.None,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.ToCRD != "" {
				return o.writeCRDs(cmd.Context())
			}
			return o.run(cmd.Context())
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&o.Dir, "dir", ".", "Folder of the project")
	fs.StringVar(&o.AnnexSource, "annex-source", "", "Checkout of Annex that the project builds with (default what this annex was built from)")
	fs.StringVar(&o.ToCRD, "to-crd", "", "File to write the kinds to as CustomResourceDefinitions; - is standard output")
	fs.BoolVar(&o.Plan, "plan", false, "Say what would be done, and do nothing")
	fs.BoolVar(&o.SkipTidy, "skip-tidy", false, "Do not run go mod tidy and go generate afterwards")
	return cmd
}

// writeCRDs writes the definitions that go generate makes of the types.
func (o *Options) writeCRDs(ctx context.Context) error {
	if !o.SkipTidy {
		if err := gocommand.Run(ctx, o.Dir, "generate", "./..."); err != nil {
			return err
		}
	}
	stream, warnings, err := scaffold.ToCRDs(os.DirFS(o.Dir))
	if err != nil {
		return err
	}
	for _, w := range warnings {
		fmt.Fprintf(o.IO.Err, "Warning: %s\n", w)
	}
	if o.ToCRD == "-" {
		_, err := o.IO.Out.Write(stream)
		return err
	}
	return os.WriteFile(o.ToCRD, stream, 0o644)
}

func (o *Options) run(ctx context.Context) error {
	annex, err := scaffold.FindAnnex(o.AnnexSource)
	if err != nil {
		return err
	}
	from, steps, err := scaffold.Update(os.DirFS(o.Dir), annex)
	if err != nil {
		return err
	}
	if len(steps) == 0 {
		fmt.Fprintf(o.IO.Out, "Nothing is newer than scaffold %d.\n", from)
		return nil
	}
	if !o.Plan {
		if err := scaffold.Apply(o.Dir, steps); err != nil {
			return err
		}
	}
	conflicts := 0
	for _, s := range steps {
		fmt.Fprintf(o.IO.Out, "%s %s\n", s.Outcome, s.Path)
		if s.Outcome == scaffold.Conflict {
			conflicts++
		}
	}
	switch {
	case o.Plan:
		return nil
	case conflicts > 0:
		return fmt.Errorf("%d files have lines that both you and the scaffold changed: look for <<<<<<<, then run go mod tidy here and in tools, and make generate", conflicts)
	case o.SkipTidy:
		return nil
	}
	for _, args := range [][]string{{"mod", "tidy"}, {"-C", "tools", "mod", "tidy"}, {"generate", "./..."}} {
		if err := gocommand.Run(ctx, o.Dir, args...); err != nil {
			return fmt.Errorf("the files are merged, but what follows of them is not made: %w", err)
		}
	}
	return nil
}
