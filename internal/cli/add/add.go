// Package add is the command annex add: it extends a project that annex new made.
package add

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/annex-api/annex/internal/cli/definitions"
	"github.com/annex-api/annex/internal/cli/flags"
	"github.com/annex-api/annex/internal/cli/gocommand"
	"github.com/annex-api/annex/internal/cli/terminal"
	"github.com/annex-api/annex/internal/scaffold"
)

// Options are those that all of its verbs have.
type Options struct {
	IO terminal.IO

	Dir          string
	SkipGenerate bool
}

// New returns the command.
func New(streams terminal.IO) *cobra.Command {
	o := &Options{IO: streams}
	cmd := &cobra.Command{
		Use:   "add (kind | version | action | controller)",
		Short: "Extend the project of an extension API server",
		Long: `Extend a project that annex new made. New files are written, and what belongs into
files that are there is merged into them. What was written by hand stays as it is; where
that leaves no room, the lines to write are shown.`,
		Example: `  # Another kind, with a controller.
  annex add kind Gadget

  # The kinds of a file of CustomResourceDefinitions.
  annex add kind --from-crd crd.yaml

  # Another version of a kind, beside the one that is stored.
  annex add version v1beta1 --kind Widget

  # Something to do with an object: POST .../widgets/NAME/restart.
  annex add action restart --kind Widget

  # A controller for a kind that has none.
  annex add controller --kind Widget`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("%q is nothing that can be added: kind, version, action, controller are", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.PersistentFlags().StringVar(&o.Dir, "dir", ".", "Folder of the project")
	cmd.PersistentFlags().BoolVar(&o.SkipGenerate, "skip-generate", false, "Do not run go generate")
	cmd.AddCommand(o.kind(), o.version(), o.action(), o.controller())
	return cmd
}

func (o *Options) kind() *cobra.Command {
	var (
		version, many, file    string
		namespaced, controller bool
	)
	cmd := &cobra.Command{
		Use:     "kind (KIND | --from-crd FILE)",
		Short:   "Add a kind",
		Example: "  annex add kind Gadget\n  annex add kind Region --namespaced=false --controller=false\n  annex add kind --from-crd crd.yaml",
		Args: func(cmd *cobra.Command, args []string) error {
			if file != "" && len(args) == 0 {
				return nil
			}
			if file != "" {
				return fmt.Errorf("the kinds are those of --from-crd: leave out %q", args[0])
			}
			return one("the kind is missing: annex add kind Gadget")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if file == "" {
				return o.run(cmd.Context(), scaffold.AddKinds(scaffold.NewKind(args[0], many, version, namespaced, controller)))
			}
			for _, flag := range []string{"version", "namespaced", "plural"} {
				if cmd.Flags().Changed(flag) {
					return fmt.Errorf("--%s is said by the file of --from-crd", flag)
				}
			}
			group, kinds, own, err := definitions.Read(o.IO.Err, file, controller)
			if err != nil {
				return err
			}
			return o.run(cmd.Context(), scaffold.AddKindsOf(group, kinds...), own...)
		},
	}
	cmd.Flags().StringVar(&file, "from-crd", "", "File with CustomResourceDefinitions, of which kinds are made")
	cmd.Flags().StringVar(&many, "plural", "", "Name of the kind in URLs, where the guess is wrong: series")
	cmd.Flags().StringVar(&version, "version", "", "Version of the kind (default that of the first kind)")
	cmd.Flags().BoolVar(&namespaced, "namespaced", true, "Whether its objects are in namespaces")
	cmd.Flags().BoolVar(&controller, "controller", true, "Whether it has a controller")
	return cmd
}

func (o *Options) version() *cobra.Command {
	var kind string
	cmd := &cobra.Command{
		Use:     "version VERSION",
		Short:   "Serve a kind in another version",
		Example: "  annex add version v1beta1 --kind Widget",
		Args:    one("the version is missing: annex add version v1beta1 --kind Widget"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), scaffold.AddVersion(kind, args[0]))
		},
	}
	cmd.Flags().StringVar(&kind, "kind", "", "Kind that gets it (default the only one)")
	return cmd
}

func (o *Options) action() *cobra.Command {
	var kind string
	cmd := &cobra.Command{
		Use:     "action ACTION",
		Short:   "Add something to do with one object, by POST",
		Example: "  annex add action restart --kind Widget",
		Args:    one("the action is missing: annex add action restart --kind Widget"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), scaffold.AddAction(kind, args[0]))
		},
	}
	cmd.Flags().StringVar(&kind, "kind", "", "Kind that gets it (default the only one)")
	return cmd
}

func (o *Options) controller() *cobra.Command {
	var kind string
	cmd := &cobra.Command{
		Use:     "controller",
		Short:   "Give a kind a controller",
		Example: "  annex add controller --kind Widget",
		Args:    flags.None,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd.Context(), scaffold.AddController(kind))
		},
	}
	cmd.Flags().StringVar(&kind, "kind", "", "Kind that gets it (default the only one)")
	return cmd
}

func one(missing string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch len(args) {
		case 0:
			return errors.New(missing)
		case 1:
			return nil
		}
		return fmt.Errorf("unexpected argument %q", args[1])
	}
}

func (o *Options) run(ctx context.Context, addition scaffold.Addition, own ...scaffold.File) error {
	steps, err := scaffold.Extend(os.DirFS(o.Dir), addition, own...)
	if err != nil {
		return err
	}
	if err := scaffold.Apply(o.Dir, steps); err != nil {
		return err
	}
	left := 0
	for _, s := range steps {
		fmt.Fprintf(o.IO.Out, "%s %s\n", s.Outcome, s.Path)
		if s.Outcome == scaffold.ByHand {
			left++
			fmt.Fprintf(o.IO.Out, "  It was changed by hand where this belongs:\n    %s\n", strings.Join(s.Lines, "\n    "))
		}
	}
	if !o.SkipGenerate && len(own) > 0 { // their types may import what the project did not yet
		if err := gocommand.Run(ctx, o.Dir, "mod", "tidy"); err != nil {
			return fmt.Errorf("the files are written, but the requirements are not complete: %w; run make tidy generate", err)
		}
	}
	if !o.SkipGenerate {
		if err := gocommand.Run(ctx, o.Dir, "generate", "./..."); err != nil {
			return fmt.Errorf("the files are written, but not what is generated of them: %w; run make generate", err)
		}
	}
	if left > 0 {
		fmt.Fprintf(o.IO.Out, "%d to change by hand\n", left)
	}
	return nil
}
