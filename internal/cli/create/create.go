// Package create is the command annex new: it makes the project of an extension API server.
package create

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/annex-api/annex/internal/cli/definitions"
	"github.com/annex-api/annex/internal/cli/gocommand"
	"github.com/annex-api/annex/internal/cli/terminal"
	"github.com/annex-api/annex/internal/scaffold"
)

// Options of the command.
type Options struct {
	IO terminal.IO

	Group, Version, Module, Namespace string
	Kinds, Plurals                    []string
	Namespaced                        bool
	FromCRD                           string
	Dir, AnnexSource                  string
	SkipTidy                          bool
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
or be empty. The name of a kind in URLs is its plural, which is guessed and shown; --plural
says another one.

With --from-crd, group, kinds, versions and types are those of CustomResourceDefinitions.
What their types cannot carry is said, with its field. The way back is annex update --to-crd.`,
		Example: `  # A server with one kind, in the folder widgets.
  annex new widgets --group widgets.example.com --kind Widget

  # Two kinds without namespaces, in version v1, in the empty folder one is in.
  annex new fleet --group fleet.example.com --kind Ship,Port --version v1 --namespaced=false --dir .

  # The kinds of CustomResourceDefinitions, as they are in a cluster.
  kubectl get crd databases.example.com -o yaml >crd.yaml
  annex new databases --from-crd crd.yaml

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
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.FromCRD != "" {
				for _, flag := range []string{"kind", "version", "namespaced", "plural"} {
					if cmd.Flags().Changed(flag) {
						return fmt.Errorf("--%s is said by the file of --from-crd; annex add kind adds a kind to it", flag)
					}
				}
			}
			return o.run(cmd.Context(), args[0])
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&o.Group, "group", "", "API group of the kinds, below a domain of yours: widgets.example.com")
	fs.StringSliceVar(&o.Kinds, "kind", nil, "Kinds: Widget,Gadget")
	fs.StringSliceVar(&o.Plurals, "plural", nil, "Names of kinds in URLs, where the guess is wrong: Series=series, or series alone for the only kind")
	fs.StringVar(&o.FromCRD, "from-crd", "", "File with CustomResourceDefinitions, of which kinds are made")
	fs.StringVar(&o.Version, "version", "v1alpha1", "Version of the kinds")
	fs.BoolVar(&o.Namespaced, "namespaced", true, "Whether objects of the kinds are in namespaces")
	fs.StringVar(&o.Module, "module", "", "Path of the Go module (default example.com/NAME)")
	fs.StringVar(&o.Namespace, "namespace", "", "Namespace that the server runs in, for itself alone (default NAME-system)")
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
	kinds, own, err := o.kinds()
	if err != nil {
		return err
	}
	project := scaffold.New(name, o.Module, o.Namespace, o.Group, annex)
	project.Kinds = kinds
	files, err := scaffold.RenderNew(project, own)
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
	for _, k := range project.Kinds {
		fmt.Fprintf(o.IO.Out, "%s is served as %s.%s in %s\n", k.Kind, k.Plural, project.Group, strings.Join(k.Versions, ", "))
	}
	if annex.Checkout != "" {
		fmt.Fprintf(o.IO.Out, "This annex is no release, so go.mod replaces its module by the checkout %s.\n", annex.Checkout)
	}
	if err := o.complete(ctx, len(own) > 0); err != nil {
		return err
	}
	fmt.Fprintf(o.IO.Out, "Next: cd %s && make test, then annex dev. README.md says what is where.\n", filepath.Clean(o.Dir))
	return nil
}

// kinds are those of the flags, or of a file, with their types.
func (o *Options) kinds() ([]scaffold.Kind, []scaffold.File, error) {
	if o.FromCRD == "" {
		kinds, err := scaffold.NewKinds(o.Kinds, o.Plurals, o.Version, o.Namespaced, true)
		return kinds, nil, err
	}
	group, kinds, own, err := definitions.Read(o.IO.Err, o.FromCRD, true)
	if err != nil {
		return nil, nil, err
	}
	if o.Group != "" && o.Group != group {
		return nil, nil, fmt.Errorf("--group is %q, and that of %s is %q: leave out --group", o.Group, o.FromCRD, group)
	}
	o.Group = group
	return kinds, own, nil
}

// complete runs what needs the go command: tidy, and generate where what it makes is not
// known from templates.
func (o *Options) complete(ctx context.Context, generate bool) error {
	if o.SkipTidy {
		return nil
	}
	for _, module := range []string{o.Dir, filepath.Join(o.Dir, "tools")} {
		if err := gocommand.Run(ctx, module, "mod", "tidy"); err != nil {
			return fmt.Errorf("the project is in %s, but the requirements of its module are not complete: %w; run go mod tidy in %s", o.Dir, err, module)
		}
	}
	if !generate {
		return nil
	}
	if err := gocommand.Run(ctx, o.Dir, "generate", "./..."); err != nil {
		return fmt.Errorf("the project is in %s, but not what is generated of its types: %w; run make generate", o.Dir, err)
	}
	return nil
}
