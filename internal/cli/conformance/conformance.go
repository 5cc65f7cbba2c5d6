// Package conformance is the command annex conformance: it checks any API resource of any cluster.
package conformance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/annex-api/annex/extension/extensiontest/conformance"
	"github.com/annex-api/annex/internal/cli/completion"
	"github.com/annex-api/annex/internal/cli/flags"
	"github.com/annex-api/annex/internal/cli/kubeconfig"
	"github.com/annex-api/annex/internal/cli/terminal"
)

// Options of the command.
type Options struct {
	IO terminal.IO

	Kubeconfig, Context             string
	SecondKubeconfig, SecondContext string
	APIService                      string
	Resources                       []string
	Sample                          string
	Change                          string
	Direct, DirectCA                string
	DirectInsecure                  bool
	Stream                          string
	StreamWebSocket                 bool
	StreamOpen                      time.Duration
	StorageStop, StorageStart       string
	Intrusive, Slow                 bool
	Only, Skip                      []string
	Plan, List                      bool
	Output                          string
}

// New returns the command.
func New(streams terminal.IO) *cobra.Command {
	o := &Options{IO: streams}
	cmd := &cobra.Command{
		Use:   "conformance (--apiservice NAME | --resource RESOURCE)",
		Short: "Check an API resource against the contract of the Kubernetes API",
		Long: `Check an API resource, of an extension server or any other, against the contract of
the Kubernetes API: lists and watches, writes, patches, apply, deletion, discovery,
OpenAPI, media types, authorization and more.

Everything is created in a namespace of its own and removed at the end, also on Ctrl-C.
--plan says what that is and creates nothing.

The exit code is 1 when a check failed, and 2 when nothing could be checked.`,
		Example: `  # Every resource of an extension server.
  annex conformance --apiservice v1.example.com

  # One resource, with an object that the server takes, as a CI job.
  annex conformance --resource widgets.v1.example.com --sample widget.yaml -o junit

  # What it would create, and nothing more.
  annex conformance --resource configmaps.v1 --plan

  # Watches alone, those that take minutes too.
  annex conformance --resource widgets.v1.example.com --only 'watch/*' --slow

  # All checks, and what each is about.
  annex conformance --list`,
		Args: flags.None,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.validate(); err != nil {
				return err
			}
			if o.List {
				return o.list()
			}
			return o.run(cmd.Context())
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&o.Kubeconfig, "kubeconfig", "", "Kubeconfig of a user who may do everything with the resource, and make namespaces (default as kubectl)")
	fs.StringVar(&o.Context, "context", "", "Context of the kubeconfig")
	fs.StringVar(&o.APIService, "apiservice", "", "Check every resource of this group version that can be listed: v1.example.com")
	fs.StringArrayVar(&o.Resources, "resource", nil, "Check this resource: widgets.v1.example.com, or configmaps.v1; may be given again")
	fs.StringVar(&o.Sample, "sample", "", "File with an object that the server takes (default made from the OpenAPI schema)")
	fs.StringVar(&o.Change, "change", "", "Path of a field that may be changed: spec.message (default found in the schema)")
	fs.StringVar(&o.SecondKubeconfig, "second-kubeconfig", "", "Kubeconfig of a user who may see less, for the checks of authorization")
	fs.StringVar(&o.SecondContext, "second-context", "", "Context of a user who may see less")
	fs.StringVar(&o.Direct, "direct", "", "URL straight to the extension server: https://10.0.0.7:8443")
	fs.StringVar(&o.DirectCA, "direct-ca", "", "File with the certificate authority of --direct")
	fs.BoolVar(&o.DirectInsecure, "direct-insecure", false, "Do not verify the certificate of --direct; the checks of the certificate still do")
	fs.StringVar(&o.Stream, "stream", "", "A subresource that streams, as in log?follow=true, or a path")
	fs.BoolVar(&o.StreamWebSocket, "stream-websocket", false, "Open --stream by a WebSocket upgrade")
	fs.DurationVar(&o.StreamOpen, "stream-open", 0, "How long --stream must stay open (default 75s)")
	fs.StringVar(&o.StorageStop, "storage-stop", "", "Shell command that stops the server's storage")
	fs.StringVar(&o.StorageStart, "storage-start", "", "Shell command that starts it again")
	fs.BoolVar(&o.Intrusive, "intrusive", false, "Also strip the APIService's caBundle for a moment")
	fs.BoolVar(&o.Slow, "slow", false, "Also make the checks that take more than 10 seconds")
	fs.StringSliceVar(&o.Only, "only", nil, "Patterns of checks to make, as in 'watch/*'")
	fs.StringSliceVar(&o.Skip, "skip", nil, "Patterns of checks to leave out")
	fs.BoolVar(&o.Plan, "plan", false, "Print what would be created, and create nothing")
	fs.BoolVar(&o.List, "list", false, "Print all checks, with what they promise and where that is written")
	fs.StringVarP(&o.Output, "output", "o", "table", "table, json or junit")
	o.complete(cmd)
	return cmd
}

// outputs are the forms of a report.
var outputs = []string{"table", "json", "junit"}

// complete gives shells the words of flags: what the API server knows, and what the kubeconfig names.
func (o *Options) complete(cmd *cobra.Command) {
	contexts := func(kubeconfigFile *string) cobra.CompletionFunc {
		return func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
			return (&kubeconfig.Flags{Kubeconfig: *kubeconfigFile}).Contexts(), cobra.ShellCompDirectiveNoFileComp
		}
	}
	for flag, words := range map[string]cobra.CompletionFunc{
		"apiservice": func(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
			return completion.APIServices(&kubeconfig.Flags{Kubeconfig: o.Kubeconfig, Context: o.Context})(cmd, args, begun)
		},
		"context":        contexts(&o.Kubeconfig),
		"second-context": contexts(&o.SecondKubeconfig),
		"output":         cobra.FixedCompletions(outputs, cobra.ShellCompDirectiveNoFileComp),
	} {
		// An error means that a flag is not there, which the tests would find.
		_ = cmd.RegisterFlagCompletionFunc(flag, words)
	}
}

func (o *Options) validate() error {
	switch {
	case !slices.Contains(outputs, o.Output):
		return fmt.Errorf("--output %q is none of table, json and junit", o.Output)
	case o.List:
		return nil
	case o.APIService == "" && len(o.Resources) == 0:
		return errors.New("nothing to check: name a resource with --resource, or all of a group version with --apiservice")
	case o.APIService != "" && len(o.Resources) > 0:
		return errors.New("--apiservice and --resource exclude each other")
	case (o.StorageStop == "") != (o.StorageStart == ""):
		return errors.New("--storage-stop and --storage-start go together")
	case o.Direct == "" && (o.DirectCA != "" || o.DirectInsecure):
		return errors.New("--direct-ca and --direct-insecure need --direct")
	case (o.Sample != "" || o.Change != "") && (o.APIService != "" || len(o.Resources) > 1):
		return errors.New("--sample and --change are for one --resource")
	}
	for _, text := range o.Resources {
		if _, err := parseResource(text); err != nil {
			return err
		}
	}
	if o.APIService != "" {
		if _, err := parseAPIService(o.APIService); err != nil {
			return err
		}
	}
	return nil
}

// parseResource reads widgets.v1.example.com.
func parseResource(text string) (schema.GroupVersionResource, error) {
	parts := strings.SplitN(text, ".", 3)
	if len(parts) < 2 || slices.Contains(parts, "") {
		return schema.GroupVersionResource{}, fmt.Errorf("--resource %q is not of the form widgets.v1.example.com, or configmaps.v1", text)
	}
	r := schema.GroupVersionResource{Resource: parts[0], Version: parts[1]}
	if len(parts) == 3 {
		r.Group = parts[2]
	}
	return r, nil
}

// parseAPIService reads v1.example.com.
func parseAPIService(name string) (schema.GroupVersion, error) {
	version, group, _ := strings.Cut(name, ".")
	if version == "" || group == "" {
		return schema.GroupVersion{}, fmt.Errorf("--apiservice %q is not of the form v1.example.com", name)
	}
	return schema.GroupVersion{Group: group, Version: version}, nil
}

// list prints the checks.
func (o *Options) list() error {
	w := tabwriter.NewWriter(o.IO.Out, 0, 0, 2, ' ', 0)
	for _, c := range conformance.Checks() {
		id := c.ID
		if c.Slow {
			id += " (slow)"
		}
		fmt.Fprintf(w, "%s\t%s\n\t%s\n", id, c.Promise, c.Source)
	}
	return w.Flush()
}

// run checks one resource after another.
func (o *Options) run(ctx context.Context) error {
	targets, err := o.targets(ctx)
	if err != nil {
		return unchecked{err}
	}
	if o.Plan {
		return o.plan(ctx, targets)
	}
	var reports []conformance.Report
	for _, target := range targets {
		// Where the report is a document, how it goes is progress.
		w := o.IO.Out
		if o.Output != "table" {
			w = o.IO.Err
		}
		r := &recording{Reporter: conformance.Table(w)}
		r.report.Summary = conformance.Run(ctx, target, r)
		reports = append(reports, r.report)
		if ctx.Err() != nil {
			break
		}
	}
	if err := write(o.IO.Out, o.Output, reports); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return verdict(reports)
}

func (o *Options) plan(ctx context.Context, targets []conformance.Target) error {
	for _, target := range targets {
		plan, err := conformance.PlanOf(ctx, target)
		if err != nil {
			return unchecked{err}
		}
		fmt.Fprintln(o.IO.Out, plan)
	}
	return nil
}

func write(w io.Writer, format string, reports []conformance.Report) error {
	switch format {
	case "json":
		return conformance.WriteJSON(w, reports...)
	case "junit":
		return conformance.WriteJUnit(w, reports...)
	}
	return nil // written as it went
}

// recording keeps the plan beside what is reported.
type recording struct {
	conformance.Reporter
	report conformance.Report
}

func (r *recording) Planned(p conformance.Plan) {
	r.report.Plan = p
	r.Reporter.Planned(p)
}

// unchecked is an error before anything was checked.
type unchecked struct{ error }

func (e unchecked) Unwrap() error { return e.error }

// ExitCode of the command.
func (unchecked) ExitCode() int { return 2 }

// verdict is nil where every check that could be made has passed.
func verdict(reports []conformance.Report) error {
	failed, passed, left := 0, 0, 0
	var errs []error
	for _, r := range reports {
		failed += r.Summary.Count(conformance.Failed)
		passed += r.Summary.Count(conformance.Passed)
		left += len(r.Summary.Left)
		errs = append(errs, r.Summary.Err)
	}
	err := errors.Join(errs...)
	switch {
	case failed > 0:
		return fmt.Errorf("%d of %d checks failed", failed, failed+passed)
	case passed == 0:
		if err == nil {
			err = errors.New("nothing could be checked")
		}
		return unchecked{err}
	case left > 0:
		return errors.Join(err, fmt.Errorf("%d things were left behind; see the report", left))
	}
	return err
}
