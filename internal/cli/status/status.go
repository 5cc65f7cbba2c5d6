// Package status is the command annex status: how extension servers fare, as a table.
//
// One list goes a short way: a source asks the API server (Annex, or any other), rows turns objects into
// texts, table lays them out within the terminal's width, document writes them for programs. A watch goes
// the same way, and live or append shows what has changed.
package status

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/annex-api/annex/apis/aggregation/v1alpha1"
	"github.com/annex-api/annex/diagnosis"
	"github.com/annex-api/annex/internal/cli/completion"
	"github.com/annex-api/annex/internal/cli/kubeconfig"
	"github.com/annex-api/annex/internal/cli/terminal"
	"github.com/annex-api/annex/internal/printable"
)

// Options of the command.
type Options struct {
	IO    terminal.IO
	Flags kubeconfig.Flags

	// Names are the APIServices to show; none means all that have an extension server.
	Names []string
	// Output is empty, or one of wide, json, yaml and name.
	Output    string
	Watch     bool
	NoHeaders bool
	Selector  string
	// States keeps APIServices in one of these states; none keeps all.
	States []string

	program string // how its user calls annex
	display display
	connect func() (*kubeconfig.Connection, error)
	now     func() time.Time
}

// New returns the command. program is how its user calls it: annex, or kubectl annex.
func New(program string, streams terminal.IO) *cobra.Command {
	return command(program, &Options{IO: streams, display: displayOf(streams.Out), now: time.Now})
}

// command has its flags set options, and runs with them.
func command(program string, o *Options) *cobra.Command {
	o.program = program
	if o.connect == nil {
		o.connect = func() (*kubeconfig.Connection, error) { return o.Flags.Connect("status") }
	}
	cmd := &cobra.Command{
		Use:   "status [NAME...]",
		Short: "Show how the servers behind APIServices fare",
		Long: `Show how the extension API servers behind APIServices fare: their state with its
reason, how many endpoints are healthy, and since when.

On Annex this is what the API server sees of each of them. Other API servers know
less, and what they do know is shown: the condition of the APIService, and the
endpoints of its Service.

It ends with 0 if everything could be shown, 1 if there is no APIService of a NAME,
and 2 if the API server could not be asked. That an APIService is unhealthy does not
change the code; annex doctor is for that.`,
		Example: fmt.Sprintf(`  # All of them; on a terminal the gravest come first.
  %[1]s status

  # What is not well, and why.
  %[1]s status --state unhealthy -o wide

  # One, all that is known.
  %[1]s status v1beta1.metrics.k8s.io -o yaml

  # Live, until Ctrl-C.
  %[1]s status -w

  # Of another cluster.
  %[1]s status --context production

  # The names of those that are down, for a script.
  %[1]s status --state unavailable -o name`, program),
		ValidArgsFunction: completion.APIServices(&o.Flags),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Names = args
			if err := o.validate(); err != nil {
				return err
			}
			return o.run(kubeconfig.Quiet(cmd.Context()))
		},
	}
	fs := cmd.Flags()
	fs.StringVarP(&o.Output, "output", "o", "", "Format: wide, json, yaml or name (default a table)")
	fs.BoolVarP(&o.Watch, "watch", "w", false, "Go on showing what changes")
	fs.BoolVar(&o.NoHeaders, "no-headers", false, "Leave out the table's headings")
	fs.StringVarP(&o.Selector, "selector", "l", "", "Labels that APIServices must have, as kubectl reads them: team=storage,tier!=test")
	fs.StringSliceVar(&o.States, "state", nil, "States to show: "+strings.Join(stateNames, ", "))
	o.Flags.Bind(cmd)
	// An error means that a flag is not there, which the tests would find.
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]cobra.Completion{"wide", "json", "yaml", "name"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("state", cobra.FixedCompletions(stateNames, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// unhealthy stands for every state but Healthy.
const unhealthy = "unhealthy"

var stateNames = []string{"healthy", "degraded", "unavailable", "unknown", unhealthy}

// exit is an error with the code that the command ends with.
type exit struct {
	error
	code int
}

// ExitCode is what the command ends with.
func (e exit) ExitCode() int { return e.code }

func (e exit) Unwrap() error { return e.error }

const (
	notFound    = 1
	couldNotAsk = 2
)

// validate checks what the flags say, before anything is asked.
func (o *Options) validate() error {
	wrong := func(format string, args ...any) error { return exit{fmt.Errorf(format, args...), couldNotAsk} }
	if !slices.Contains([]string{"", "wide", "json", "yaml", "name"}, o.Output) {
		return wrong("--output %q is none of wide, json, yaml and name", shown(o.Output))
	}
	if _, err := labels.Parse(o.Selector); err != nil {
		return wrong("--selector %q is not of the form KEY=VALUE, KEY!=VALUE or KEY", shown(o.Selector))
	}
	for i, state := range o.States {
		o.States[i] = strings.ToLower(strings.TrimSpace(state))
		if !slices.Contains(stateNames, o.States[i]) {
			return wrong("--state %q is none of %s", shown(state), strings.Join(stateNames, ", "))
		}
	}
	return nil
}

// shown is a name as it may be printed.
func shown(name string) string { return printable.Line(name, 253) }

func (o *Options) run(ctx context.Context) error {
	connection, err := o.connect()
	if err != nil {
		return err
	}
	if err := connection.Login(ctx); err != nil {
		return err
	}
	clock := &clock{now: o.now}
	connection.Config.Wrap(clock.watch)
	src, first, err := choose(ctx, connection, o.Selector)
	if err != nil {
		return o.explain(ctx, connection, err)
	}
	if note := clock.note(); note != "" {
		o.note(note)
	}
	if first.note != "" {
		o.note(first.note)
	}
	p := &printer{Options: o, columns: src.columns(), now: clock.server}
	missing := o.missing(first.items)
	shown := p.selected(first.items)
	if len(shown) == 0 && missing != nil {
		return missing
	}
	if o.Watch {
		return o.watch(ctx, connection, src, first, p)
	}
	if err := p.print(shown); err != nil {
		return fmt.Errorf("write the list: %w", err)
	}
	o.afterwards(first.items, shown)
	return missing
}

// explain says what could not be asked; the end of a watch is what its user wanted.
func (o *Options) explain(ctx context.Context, c *kubeconfig.Connection, err error) error {
	if o.Watch && ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return c.Explain("list APIServices", err)
}

// note writes a line beside the output.
func (o *Options) note(text string) { fmt.Fprintln(o.IO.Err, text) }

// missing is the error for names that no APIService has; nil where all are there.
func (o *Options) missing(items []v1alpha1.RemoteAPIService) error {
	var have []string
	for i := range items {
		have = append(have, items[i].Name)
	}
	var sentences []string
	end := ";"
	for _, name := range o.Names {
		if slices.Contains(have, name) {
			continue
		}
		sentence := fmt.Sprintf("no APIService %q has an extension server", shown(name))
		end = ";"
		if near := diagnosis.Nearest(name, have); len(near) > 0 {
			sentence += "; did you mean " + strings.Join(near, " or ") + "?"
			end = ""
		}
		if sentences = append(sentences, sentence); len(sentences) == maxMissing {
			break
		}
	}
	if len(sentences) == 0 {
		return nil
	}
	return exit{errors.New(strings.ReplaceAll(strings.Join(sentences, "; "), "?;", "?") + end + ` "kubectl get apiservices" lists all, with those that the API server answers itself`), notFound}
}

// maxMissing is how many names that are not there are told of.
const maxMissing = 5

// afterwards says what to do next: on a terminal, where a person reads.
func (o *Options) afterwards(all, shown []v1alpha1.RemoteAPIService) {
	if len(shown) == 0 {
		switch {
		case len(all) > 0:
			o.note("No APIService with an extension server is as asked for.")
		case o.Selector != "":
			o.note("No APIService with an extension server has such labels.")
		default:
			o.note("No APIService has an extension server.")
		}
		return
	}
	if !o.display.terminal || o.structured() {
		return
	}
	var worst string
	for _, item := range inOrder(shown, true) {
		if item.Status.State == v1alpha1.Unavailable || item.Status.State == v1alpha1.Degraded {
			worst = printable.Line(item.Name, 253)
			break
		}
	}
	if len(shown) > manyRows {
		o.note(counted(shown))
	}
	if worst != "" {
		o.note(fmt.Sprintf("Why, and what to do: %s doctor %s", o.program, worst))
	}
}

// manyRows is more than a look takes in.
const manyRows = 20

// structured is whether the output is for programs.
func (o *Options) structured() bool {
	return o.Output == "json" || o.Output == "yaml" || o.Output == "name"
}
