// Package doctor is the command annex doctor: what is wrong with the aggregated APIs of a cluster,
// why, and what to do.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/annex-api/annex/diagnosis"
	"github.com/annex-api/annex/diagnosis/gather"
	"github.com/annex-api/annex/internal/cli/completion"
	"github.com/annex-api/annex/internal/cli/flags"
	"github.com/annex-api/annex/internal/cli/kubeconfig"
	"github.com/annex-api/annex/internal/cli/terminal"
	"github.com/annex-api/annex/internal/printable"
)

const (
	// defaultInterval and defaultTimeout are those of --wait.
	defaultInterval, defaultTimeout = 5 * time.Second, 5 * time.Minute
	// minInterval spares the cluster.
	minInterval = 100 * time.Millisecond
	// most is how many APIServices that are not well are looked at together, unless --all.
	most = 50
)

// Options of the command.
type Options struct {
	IO terminal.IO
	In io.Reader // what "-f -" reads

	Client    kubeconfig.Flags
	Names     []string
	All       bool
	Files     []string
	Explain   string
	Output    string
	Verbose   bool
	Wait      bool
	Interval  time.Duration
	Timeout   time.Duration
	WatchList bool
	Direct    bool
	// ProbePod creates a Pod beside each extension server, with ProbeImage.
	ProbePod   bool
	ProbeImage string

	// program is how to call it: annex, or kubectl annex.
	program  string
	progress *progress
}

// New returns the command.
func New(streams terminal.IO) *cobra.Command {
	o := &Options{IO: streams, progress: newProgress(streams.Err)}
	cmd := &cobra.Command{
		Use:   "doctor [APISERVICE...]",
		Short: "Say what is wrong with aggregated APIs, why, and what to do",
		Long: `Say what is wrong with aggregated APIs, why, and what to do, whoever's API server
it is.

It goes the way that a request goes: registration, Service, endpoints and Pods,
network, TLS, identity, answers, documents and watches. It names the first link that
is broken, what it saw, the remedy as commands to copy, and who suffers meanwhile.

Without names it looks at the APIServices that are not well. It asks with your own
rights, and changes nothing, unless --probe-pod; what you may not see it says, and
goes on.

With --probe-pod it creates a Pod in the namespace of each extension server that you
name. The Pod asks the server's endpoints and its Service with curl, from inside the
cluster, and is deleted afterwards, also on Ctrl-C. It fits the restricted Pod
Security Standard, has no service account token, and ends after two minutes at most.
Where nodes cannot pull the image, name one of your own that has curl.

The exit code is 0 when all is well, 1 when there are faults, and 2 when the cluster
could not be asked. A fault is an error or a warning that is certain or likely. What is
only possible, for other things would explain it too, is printed and leaves 0; so does
what is only good to know.`,
		Example: `  # What is wrong, and what to do.
  annex doctor

  # One APIService, with all checks.
  annex doctor v1beta1.metrics.k8s.io --verbose

  # Also those that seem well: certificates that expire, watches that never end.
  annex doctor --all

  # After an installation: wait until it works.
  annex doctor v1beta1.metrics.k8s.io --wait --timeout 2m

  # Before an APIService is applied.
  helm template metrics-server | annex doctor -f -

  # From inside the cluster too: a Pod is created, and deleted afterwards.
  annex doctor v1beta1.metrics.k8s.io --probe-pod

  # What a code means.
  annex doctor --explain ANX201

  # As a CI job.
  annex doctor --all -o junit > doctor.xml`,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Names, o.In, o.program = args, cmd.InOrStdin(), cmd.Root().DisplayName()
			if err := o.validate(); err != nil {
				return unasked{err}
			}
			if o.Explain != "" {
				return o.explain()
			}
			return o.run(cmd.Context())
		},
	}
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return unasked{flags.Explain(cmd.Flags(), cmd.CommandPath(), err)}
	})
	fs := cmd.Flags()
	fs.BoolVarP(&o.All, "all", "A", false, "Look closely at every remote APIService, also at those that seem well")
	fs.StringArrayVarP(&o.Files, "filename", "f", nil, "Check the APIServices of this file before they are applied; - is standard input; may be repeated")
	fs.StringVar(&o.Explain, "explain", "", "Say what a `CODE` such as ANX201 means, without asking a cluster; all lists every one")
	fs.StringVarP(&o.Output, "output", "o", "text", "text, json, yaml or junit")
	fs.BoolVarP(&o.Verbose, "verbose", "v", false, "Show every check, not only where on the way something is wrong")
	fs.BoolVar(&o.Wait, "wait", false, "Look again until all is well, with a line for each change")
	fs.DurationVar(&o.Interval, "interval", defaultInterval, "With --wait, how long to pause between two looks")
	fs.DurationVar(&o.Timeout, "timeout", defaultTimeout, "With --wait, when to give up")
	fs.BoolVar(&o.WatchList, "watch-list", true, "Open a watch that matches nothing, to see whether informers would hang: it takes 5s where they would")
	fs.BoolVar(&o.Direct, "direct", false, "Also connect to endpoints, and to each API server, from here: for machines within the cluster's network")
	fs.BoolVar(&o.ProbePod, "probe-pod", false, "Also ask the named extension servers from a short-lived Pod in their namespaces, which is deleted afterwards")
	fs.StringVar(&o.ProbeImage, "probe-image", gather.ProbeImage, "With --probe-pod, the `IMAGE` to run: it must have curl 7.88 or later")
	o.Client.Bind(cmd)
	cmd.ValidArgsFunction = completion.APIServices(&o.Client)
	for flag, complete := range map[string]cobra.CompletionFunc{"output": outputs, "explain": codes} {
		// An error means that the flag is not there, which the tests of completion see.
		_ = cmd.RegisterFlagCompletionFunc(flag, complete)
	}
	return cmd
}

// forms are those of --output.
var forms = []string{"text", "json", "yaml", "junit"}

func outputs(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return forms, cobra.ShellCompDirectiveNoFileComp
}

// codes completes those of --explain.
func codes(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	var all []cobra.Completion
	for _, f := range diagnosis.Faults() {
		all = append(all, cobra.CompletionWithDesc(string(f.Code), f.Title))
	}
	return all, cobra.ShellCompDirectiveNoFileComp
}

func (o *Options) validate() error {
	for i, name := range o.Names {
		full, err := apiServiceName(name)
		if err != nil {
			return err
		}
		o.Names[i] = full
	}
	switch {
	case !slices.Contains(forms, o.Output):
		return fmt.Errorf("--output %q is none of text, json, yaml and junit", printable.Line(o.Output, maxName))
	case o.Explain != "" && (len(o.Names)+len(o.Files) > 0 || o.All || o.Wait):
		return errors.New("--explain asks no cluster: it takes no names, and neither --all, --wait nor -f")
	case o.Explain != "" && o.Output == "junit":
		return errors.New("--explain has no junit form; take -o json or -o yaml")
	case o.All && len(o.Names) > 0:
		return errors.New("name APIServices, or look at --all")
	case o.ProbePod && (len(o.Names) == 0 || len(o.Files) > 0 || o.Wait):
		return errors.New("--probe-pod creates a Pod for each APIService: name those that it is for, without --wait and -f")
	case o.ProbePod && !imageName(o.ProbeImage):
		return fmt.Errorf("--probe-image %q is no name of an image; they are like %s", printable.Line(o.ProbeImage, maxName), gather.ProbeImage)
	case o.Wait && len(o.Files) > 0:
		return errors.New("--wait is for what is applied: leave out -f, or check first and wait afterwards")
	case o.Wait && o.Interval < minInterval:
		return fmt.Errorf("--interval %v is shorter than %v", o.Interval, minInterval)
	case o.Wait && o.Timeout <= 0:
		return fmt.Errorf("--timeout %v is no time to wait; give one such as 2m", o.Timeout)
	}
	return nil
}

// imageName says whether a text can be an image's name, which the cluster judges.
func imageName(s string) bool {
	return s != "" && len(s) <= maxName && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f })
}

// maxName is how long the name of an object can be.
const maxName = 253

// apiServiceName reads what people call an APIService: v1.example.com, example.com/v1, or what
// kubectl -o name prints.
func apiServiceName(text string) (string, error) {
	name := text
	if kind, rest, isPath := strings.Cut(text, "/"); isPath {
		switch kind {
		case "apiservice", "apiservices", "apiservice.apiregistration.k8s.io", "apiservices.apiregistration.k8s.io":
			name = rest
		default:
			name = rest + "." + kind // GROUP/VERSION
		}
	}
	valid := name != "" && len(name) <= maxName && !strings.ContainsFunc(name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '.')
	})
	if !valid || strings.HasPrefix(name, ".") || strings.HasSuffix(name, ".") || strings.Contains(name, "..") {
		return "", fmt.Errorf("%q is no name of an APIService: they are like v1.example.com, and \"kubectl get apiservices\" lists them", printable.Line(text, maxName))
	}
	return name, nil
}

// unasked is an error for which nothing could be asked.
type unasked struct{ error }

func (e unasked) Unwrap() error { return e.error }

// ExitCode of the command.
func (unasked) ExitCode() int { return 2 }

// run looks once, or until all is well.
func (o *Options) run(ctx context.Context) error {
	look, err := o.looking(ctx)
	if err != nil {
		return unasked{err}
	}
	if o.Wait {
		return o.wait(ctx, look)
	}
	found, failed := look(ctx)
	if failed != nil && len(found.Reports) == 0 {
		return unasked{failed}
	}
	// What was found before it was stopped is worth having.
	if err := o.write(found); err != nil {
		return unasked{fmt.Errorf("write the report: %w", err)}
	}
	if failed != nil {
		return unasked{failed}
	}
	if err := found.verdict(); err != nil && o.Output != "text" {
		return err
	} else if err != nil {
		return faults{} // the text ends with it
	}
	return nil
}
