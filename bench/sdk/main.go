// Command sdk measures a server on the SDK beside sample-apiserver, Kubernetes' own example, with the
// same kinds on the same etcd, and the SDK's other storage beside it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/annex-api/annex/bench/internal/evidence"
)

// The subjects that are compared, and those beside.
const (
	sample   = "sample-apiserver"
	sdk      = "sdk"
	postgres = "postgres"
	sqlite   = "sqlite"
	memory   = "memory"
)

// drivers are the SDK's storage beside etcd.
var drivers = []string{postgres, sqlite, memory}

type options struct {
	rounds   int
	sizes    sizes
	drivers  []string
	json     string
	markdown string
	profiles string
	keep     bool
}

// sizes say how much of everything is done.
type sizes struct {
	Objects     int `json:"objects"`  // created, and listed
	Requests    int `json:"requests"` // GETs; PUTs and PATCHes are a quarter
	Lists       int `json:"lists"`    // of 500; of all Objects a tenth
	Concurrency int `json:"concurrency"`
	Watches     int `json:"watches"`
	Events      int `json:"events"` // to each watch
	Rate        int `json:"rate"`   // events a second
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
		fmt.Fprintln(os.Stderr, "sdk:", err)
		stop()
		os.Exit(1)
	}
}

func parse(args []string) (options, error) {
	o := options{}
	s := &o.sizes
	f := flag.NewFlagSet("sdk", flag.ContinueOnError)
	f.IntVar(&o.rounds, "rounds", 3, "how many times each of the two servers runs; medians are over these")
	f.IntVar(&s.Objects, "objects", 10_000, "objects that are created, and then listed")
	f.IntVar(&s.Requests, "requests", 4000, "GETs; there are a quarter as many PUTs and PATCHes")
	f.IntVar(&s.Lists, "lists", 200, "LISTs of 500; those of all objects are a tenth as many")
	f.IntVar(&s.Concurrency, "concurrency", 8, "requests under way at a time")
	f.IntVar(&s.Watches, "watches", 1000, "watches that get events")
	f.IntVar(&s.Events, "events", 30, "events that each of them gets")
	f.IntVar(&s.Rate, "rate", 10, "of these a second")
	names := f.String("drivers", strings.Join(drivers, ","), "the SDK's `storage` to measure beside etcd; - for none")
	short := f.Bool("short", false, "a small run that shows that everything works; its numbers mean little")
	f.StringVar(&o.json, "json", "", "also write everything that was measured to this `file`")
	f.StringVar(&o.markdown, "markdown", "", "also put the tables into this Markdown `file`, between their marks; see docs/evidence")
	f.StringVar(&o.profiles, "profiles", "", "take processor profiles of both servers while requests run, into this `folder`; costs more")
	f.BoolVar(&o.keep, "keep", false, "keep the servers' logs and data, and say where they are")
	f.Usage = func() {
		fmt.Fprintf(f.Output(), "Usage: go run ./bench/sdk [flags]\n\nFlags:\n")
		f.PrintDefaults()
	}
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	if *short {
		o.rounds = 1
		*s = sizes{Objects: 600, Requests: 400, Lists: 20, Concurrency: 8, Watches: 50, Events: 10, Rate: 10}
	}
	for name, n := range map[string]int{
		"rounds": o.rounds, "requests": s.Requests, "lists": s.Lists, "concurrency": s.Concurrency, "watches": s.Watches, "events": s.Events, "rate": s.Rate,
	} {
		if n < 1 || n > 1_000_000 {
			return o, fmt.Errorf("-%s must be from 1 to 1000000, not %d", name, n)
		}
	}
	if s.Objects < few || s.Objects > 1_000_000 {
		return o, fmt.Errorf("-objects must be from %d to 1000000, not %d", few, s.Objects)
	}
	if *names != "-" {
		o.drivers = strings.Split(*names, ",")
	}
	for _, name := range o.drivers {
		if !slices.Contains(drivers, name) {
			return o, fmt.Errorf("there is no storage %q, only %s", name, strings.Join(drivers, ", "))
		}
	}
	return o, nil
}

func run(ctx context.Context, o options) (err error) {
	s, err := open(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	r := report{options: o, versions: s.versions}
	failure := s.all(ctx, &r)
	// What was measured before a failure is not lost.
	if err := errors.Join(r.tables(os.Stdout), save(o.json, r), failure); err != nil {
		return err
	}
	return errors.Join(evidence.Replace(o.markdown, "sample", r.compared), evidence.Replace(o.markdown, "storage", r.storage))
}

// all measures everything.
func (s *stage) all(ctx context.Context, r *report) error {
	for round := 1; round <= s.options.rounds; round++ {
		samples, err := s.compare(ctx, round)
		r.samples = append(r.samples, samples...)
		if err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
	}
	for _, driver := range s.options.drivers {
		samples, err := s.alone(ctx, driver)
		r.samples = append(r.samples, samples...)
		if err != nil {
			return fmt.Errorf("%s: %w", driver, err)
		}
	}
	return nil
}

// save writes every value to a file; nothing is done without a path.
func save(path string, r report) error {
	if path == "" {
		return nil
	}
	content, err := json.MarshalIndent(map[string]any{"sizes": r.options.sizes, "versions": r.versions, "samples": r.samples}, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding the results: %w", err)
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		return fmt.Errorf("writing the results: %w", err)
	}
	return nil
}

type writer = io.Writer
