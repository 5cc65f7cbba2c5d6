// Command peers runs the conformance kit over servers that others wrote, behind Annex or the
// reference, and says of each check that is not passed what was seen and whose fault it is.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/annex-api/annex/bench/internal/build"
	"github.com/annex-api/annex/bench/internal/evidence"
)

type options struct {
	peers     []peer
	host      string
	slow      bool
	check     bool
	keep      bool
	json      string
	markdown  string
	only      []string
	reference string // command of the reference; empty: built
	ours      string // command of Annex; empty: built
}

var errUnexplained = errors.New("something was found that nobody has explained, or is explained and was not found")

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
		fmt.Fprintln(os.Stderr, "peers:", err)
		stop()
		os.Exit(1)
	}
}

func parse(args []string) (options, error) {
	o := options{}
	f := flag.NewFlagSet("peers", flag.ContinueOnError)
	behind := f.String("behind", build.Annex, "the API `server` that the peers are behind: annex or reference")
	names := f.String("peers", "", "the `names` of the peers to check, as sample-apiserver,crd; default all")
	only := f.String("only", "", "`patterns` of checks to make, as watch/*; what is explained is not compared then")
	f.BoolVar(&o.slow, "slow", true, "also make the checks that take more than 10 seconds, where a peer asks for them")
	f.BoolVar(&o.keep, "keep", false, "keep the logs and data, and say where they are")
	f.StringVar(&o.json, "json", "", "also write every result, with what was sent and what came, to this `file`")
	f.StringVar(&o.markdown, "markdown", "", "also put the tables into the Markdown files of this `folder`; see docs/evidence")
	f.StringVar(&o.reference, "reference", "", "run this `command` as the reference instead of building it")
	f.StringVar(&o.ours, "ours", "", "run this `command` as Annex instead of building it")
	f.Usage = func() {
		fmt.Fprintf(f.Output(), "Usage: go run ./bench/peers [flags]\n\nFlags:\n")
		f.PrintDefaults()
		fmt.Fprintf(f.Output(), "\nPeers:\n")
		for _, p := range peers {
			fmt.Fprintf(f.Output(), "  %-18s %s\n", p.name, p.title)
		}
	}
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	if o.host = *behind; o.host != build.Annex && o.host != build.Reference {
		return o, fmt.Errorf("-behind must be %s or %s, not %q", build.Annex, build.Reference, o.host)
	}
	if *only != "" {
		o.only = strings.Split(*only, ",")
	}
	var err error
	o.peers, err = choose(*names)
	// A part of the checks shows a part of what is explained.
	o.check = len(o.only) == 0 && o.slow
	return o, err
}

// choose keeps the order of the peers.
func choose(names string) ([]peer, error) {
	if names == "" {
		return peers, nil
	}
	wanted := strings.Split(names, ",")
	var chosen []peer
	for _, p := range peers {
		if i := slices.Index(wanted, p.name); i >= 0 {
			chosen = append(chosen, p)
			wanted = slices.Delete(wanted, i, i+1)
		}
	}
	if len(wanted) > 0 {
		return nil, fmt.Errorf("no peer is called %q", wanted[0])
	}
	return chosen, nil
}

func run(ctx context.Context, o options) (err error) {
	s, err := open(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	r := report{behind: o.host, version: s.version}
	var errs []error
	for _, p := range o.peers {
		results, err := s.check(ctx, p)
		r.results = append(r.results, results...)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", p.name, err))
		}
	}
	if len(errs) > 0 {
		return errors.Join(append(errs, r.save(o.json))...)
	}
	var problems []string
	if o.check {
		problems = r.compare(explanations)
	}
	if err := r.table(os.Stdout); err != nil {
		return fmt.Errorf("printing the table: %w", err)
	}
	errs = append(errs, r.save(o.json))
	if o.markdown != "" {
		for _, d := range documents {
			errs = append(errs, evidence.Replace(o.markdown+"/"+d.file, d.mark, func(w writer) error { return d.write(r, w) }))
		}
	}
	for _, p := range problems {
		fmt.Fprintln(os.Stderr, p)
	}
	if len(problems) > 0 {
		errs = append(errs, errUnexplained)
	}
	return errors.Join(errs...)
}
