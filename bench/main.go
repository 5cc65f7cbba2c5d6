// Command bench runs the reference, kube-apiserver as its own project builds
// it, Annex, and Go's own reverse proxy in turn on this machine, and prints what each costs, with the
// ratio.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/annex-api/annex/bench/internal/build"
	"github.com/annex-api/annex/bench/internal/fixture"
	"github.com/annex-api/annex/bench/internal/scale"
	"github.com/annex-api/annex/bench/internal/work"
)

const (
	reference = build.Reference
	ours      = build.Annex
	bare      = build.Bare

	maxAPIServices = 5000
	maxWatches     = 20_000

	// scaleIdle is how long idling is measured at each step of -scale, in seconds,
	// unless the command line says.
	scaleIdle = 20
)

type options struct {
	rounds    int
	works     []work.Work
	json      string
	markdown  string
	keep      bool
	commands  map[string]string // of each server; empty: built from this repository
	workloads work.Config
	growth    bool // instead of the works
	scale     scale.Config
	plot      string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil {
		err = run(ctx, o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

func parse(args []string) (options, error) {
	o := options{commands: map[string]string{}}
	w := &o.workloads
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.IntVar(&o.rounds, "rounds", 3, "how many times each server runs; medians are over these")
	f.IntVar(&w.APIServices, "apiservices", 200, "APIServices that are registered, each with a Service of its own")
	f.IntVar(&w.Requests, "requests", 20000, "requests of each of the small works; lists and discovery do a quarter")
	f.IntVar(&w.Concurrency, "concurrency", 8, "requests under way at a time")
	f.IntVar(&w.Watches, "watches", 5000, "idle watches that are held")
	f.IntVar(&w.IdleSeconds, "idle", 120, "seconds over which idle cost is measured; garbage is collected every two minutes or more often")
	f.IntVar(&w.EventWatches, "event-watches", 1000, "watches that get events")
	f.IntVar(&w.EventRate, "event-rate", 10, "events a second that each of these gets")
	f.IntVar(&w.EventSeconds, "event-seconds", 10, "seconds for which they get events")
	f.StringVar(&w.Profiles, "profiles", "", "take processor profiles of the servers while requests run, into this `folder`; costs more")
	f.StringVar(&o.json, "json", "", "also write everything that was measured to this `file`")
	f.StringVar(&o.markdown, "markdown", "", "also put the table into this Markdown `file`, between its marks; see docs/evidence")
	f.BoolVar(&o.growth, "scale", false, "instead of the works measure how cost grows with the number of APIServices, then with CRDs")
	f.StringVar(&o.plot, "plot", "", "with -scale, also draw the curves into this `file`, as SVG")
	f.BoolVar(&o.keep, "keep", false, "keep the servers' logs and data, and say where they are")
	referenceCommand := f.String("reference", "", "run this `command` as the reference instead of building it")
	oursCommand := f.String("ours", "", "run this `command` as Annex instead of building it")
	names := f.String("works", strings.Join(workNames(), ","), "the `works` to do")
	short := f.Bool("short", false, "a small run that shows that everything works; its numbers mean little")
	f.Usage = func() {
		fmt.Fprintf(f.Output(), "Usage: go run ./bench [flags]\n\nFlags:\n")
		f.PrintDefaults()
	}
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	if err := suits(f, o.growth); err != nil {
		return o, err
	}
	if *short {
		shorten(f, &o)
	}
	o.scale = scale.Config{
		Steps: []int{0, 100, 250, 500, 1000}, CRDs: 500, IdleSeconds: w.IdleSeconds, Requests: 500, Concurrency: w.Concurrency,
	}
	if !given(f)["idle"] {
		o.scale.IdleSeconds = min(o.scale.IdleSeconds, scaleIdle) // both servers rest side by side
	}
	if *short {
		o.scale.Steps, o.scale.CRDs, o.scale.Requests = []int{0, 20, 50}, 10, 200
	}
	o.commands[reference], o.commands[ours] = *referenceCommand, *oursCommand
	var err error
	if o.works, err = choose(*names); err != nil {
		return o, err
	}
	return o, validate(o)
}

// suits refuses flags that would have no effect.
func suits(f *flag.FlagSet, growth bool) error {
	var err error
	f.Visit(func(g *flag.Flag) {
		switch g.Name {
		case "plot":
			if !growth {
				err = errors.New("-plot draws what -scale measures: give both")
			}
		case "works", "rounds", "apiservices", "requests", "watches", "event-watches", "event-rate", "event-seconds", "profiles":
			if growth {
				err = fmt.Errorf("-%s has no effect with -scale", g.Name)
			}
		}
	})
	return err
}

// given names the flags of the command line.
func given(f *flag.FlagSet) map[string]bool {
	names := map[string]bool{}
	f.Visit(func(g *flag.Flag) { names[g.Name] = true })
	return names
}

// shorten sets what the command line left at its default.
func shorten(f *flag.FlagSet, o *options) {
	given := given(f)
	w := &o.workloads
	for name, set := range map[string]func(){
		"rounds":      func() { o.rounds = 1 },
		"apiservices": func() { w.APIServices = 5 },
		"requests":    func() { w.Requests = 800 },
		"watches":     func() { w.Watches = 100 },
		"idle":        func() { w.IdleSeconds = 3 },

		"event-watches": func() { w.EventWatches = 50 },
		"event-seconds": func() { w.EventSeconds = 2 },
	} {
		if !given[name] {
			set()
		}
	}
}

func validate(o options) error {
	for _, b := range []struct {
		name            string
		value, low, top int
	}{
		{"rounds", o.rounds, 1, 100},
		{"apiservices", o.workloads.APIServices, 1, maxAPIServices},
		{"requests", o.workloads.Requests, 1, 10_000_000},
		{"concurrency", o.workloads.Concurrency, 1, 1000},
		{"watches", o.workloads.Watches, 1, maxWatches},
		{"idle", o.workloads.IdleSeconds, 1, 3600},
		{"event-watches", o.workloads.EventWatches, 1, maxWatches},
		{"event-rate", o.workloads.EventRate, 1, fixture.MaxEventRate},
		{"event-seconds", o.workloads.EventSeconds, 1, fixture.MaxEventSeconds},
	} {
		if b.value < b.low || b.value > b.top {
			return fmt.Errorf("-%s must be from %d to %d, not %d", b.name, b.low, b.top, b.value)
		}
	}
	return nil
}

func workNames() []string {
	var names []string
	for _, w := range work.All() {
		names = append(names, w.Name())
	}
	return names
}

// choose keeps the order in which works are to run.
func choose(names string) ([]work.Work, error) {
	wanted := strings.Split(names, ",")
	var chosen []work.Work
	for _, w := range work.All() {
		if i := slices.Index(wanted, w.Name()); i >= 0 {
			chosen = append(chosen, w)
			wanted = slices.Delete(wanted, i, i+1)
		}
	}
	if len(wanted) > 0 {
		return nil, fmt.Errorf("no work is called %q; there are %s", wanted[0], strings.Join(workNames(), ", "))
	}
	return chosen, nil
}

// save writes to a file; nothing is done without a path.
func save(path string, write func(io.Writer) error) error {
	if path == "" {
		return nil
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("making a result file: %w", err)
	}
	if err := errors.Join(write(file), file.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}
