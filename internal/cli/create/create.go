// Package create is the command annex new: it makes the project of an extension API server.
package create

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/annex-api/annex/internal/cli/gocommand"
	"github.com/annex-api/annex/internal/cli/terminal"
	"github.com/annex-api/annex/internal/scaffold"
)

// Options of the command.
type Options struct {
	IO terminal.IO

	Group, Version, Module string
	Kinds                  []string
	Namespaced             bool
	Dir, AnnexSource       string
	SkipTidy               bool
}

// New returns the command.
func New(streams terminal.IO) *cobra.Command {
	o := &Options{IO: streams}
	cmd := &cobra.Command{
		Use:   "new NAME --group GROUP --kind KIND[,KIND]",
		Short: "Make the project of an extension API server",
		Long: `Make the project of an extension API server that builds, tests and runs at once: types
with markers, resources, a controller with its test for each kind, manifests, an image
build, a CI file and a README.

NAME is the server's, that of its Service and its folder. The folder must not be there,
or be empty.`,
		Example: `  # A server with one kind, in the folder widgets.
  annex new widgets --group widgets.example.com --kind Widget

  # Two kinds without namespaces, in version v1, in the empty folder one is in.
  annex new fleet --group fleet.example.com --kind Ship,Port --version v1 --namespaced=false --dir .

  # With a module path of one's own.
  annex new widgets --group widgets.example.com --kind Widget --module github.com/me/widgets`,
		Args: func(_ *cobra.Command, args []string) error {
			switch len(args) {
			case 0:
				return errors.New("the name of the server is missing: annex new widgets --group widgets.example.com --kind Widget")
			case 1:
				return nil
			}
			return fmt.Errorf("unexpected argument %q; kinds are named as in --kind Widget,Gadget", args[1])
		},
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), args[0]) },
	}
	fs := cmd.Flags()
	fs.StringVar(&o.Group, "group", "", "API group of the kinds, below a domain of yours: widgets.example.com")
	fs.StringSliceVar(&o.Kinds, "kind", nil, "Kinds: Widget,Gadget")
	fs.StringVar(&o.Version, "version", "v1alpha1", "Version of the kinds")
	fs.BoolVar(&o.Namespaced, "namespaced", true, "Whether objects of the kinds are in namespaces")
	fs.StringVar(&o.Module, "module", "", "Path of the Go module (default example.com/NAME)")
	fs.StringVar(&o.Dir, "dir", "", "Folder of the project (default NAME)")
	fs.StringVar(&o.AnnexSource, "annex-source", "", "Checkout of Annex that the project builds with (default what this annex was built from)")
	fs.BoolVar(&o.SkipTidy, "skip-tidy", false, "Do not run go mod tidy, which reads the module cache and the network")
	return cmd
}

func (o *Options) run(ctx context.Context, name string) error {
	annex, err := scaffold.FindAnnex(o.AnnexSource)
	if err != nil {
		return err
	}
	project := scaffold.New(name, o.Module, o.Group, o.Version, o.Kinds, o.Namespaced, annex)
	set, err := scaffold.Templates(project.Scaffold)
	if err != nil {
		return err
	}
	files, err := scaffold.Render(project, set, nil)
	if err != nil {
		return err
	}
	if o.Dir == "" {
		o.Dir = name
	}
	if err := scaffold.WriteProject(o.Dir, files); err != nil {
		return err
	}
	fmt.Fprintf(o.IO.Out, "%s: %d files\n", filepath.Clean(o.Dir), len(files))
	if annex.Checkout != "" {
		fmt.Fprintf(o.IO.Out, "This annex is no release, so go.mod replaces its module by the checkout %s.\n", annex.Checkout)
	}
	if !o.SkipTidy {
		for _, module := range []string{o.Dir, filepath.Join(o.Dir, "tools")} {
			if err := gocommand.Run(ctx, module, "mod", "tidy"); err != nil {
				return fmt.Errorf("the project is in %s, but the requirements of its module are not complete: %w; run go mod tidy in %s", o.Dir, err, module)
			}
		}
	}
	fmt.Fprintf(o.IO.Out, "Next: cd %s && make test, then annex dev. README.md says what is where.\n", filepath.Clean(o.Dir))
	return nil
}
