// Command faults kills, freezes, overloads and corrupts extension servers under
// load, behind the reference and behind Annex, and prints what the clients saw.
//
// It runs in a network namespace that it makes, from which nothing outside can
// be reached: endpoints may not be loopback addresses.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/annex-api/annex/bench/internal/build"
	"github.com/annex-api/annex/bench/internal/namespace"
)

type options struct {
	scenarios []scenario
	subjects  []string
	short     bool
	check     bool
	keep      bool
	json      string
	markdown  string
	tree      string
	commands  map[string]string
	inside    string // the folder that the outer process made; empty in that one
}

// programsFile tells the inner process what the outer one has built.
const programsFile = "programs.json"

var errMissed = errors.New("a goal was missed")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	o, err := parse(os.Args[1:])
	switch {
	case errors.Is(err, flag.ErrHelp):
		return
	case err == nil && o.inside != "":
		err = inside(ctx, o)
	case err == nil:
		err = outside(ctx, o)
	}
	// What the inner process has to say, it has said.
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.Exited() {
		stop()
		os.Exit(exit.ExitCode())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "faults:", err)
		stop()
		os.Exit(1)
	}
}

func parse(args []string) (options, error) {
	o := options{commands: map[string]string{}}
	f := flag.NewFlagSet("faults", flag.ContinueOnError)
	f.BoolVar(&o.short, "short", false, "a shorter form of each scenario, on Annex only unless -subjects says otherwise")
	f.BoolVar(&o.check, "check", false, "exit with 1 when Annex misses a goal that counts; times, which a busy machine makes, are only shown")
	f.BoolVar(&o.keep, "keep", false, "keep the logs and data, and say where they are")
	f.StringVar(&o.json, "json", "", "also write everything that was measured to this `file`")
	f.StringVar(&o.markdown, "markdown", "", "also put the table into this Markdown `file`, between its marks; see docs/evidence")
	f.StringVar(&o.tree, "tree", "", "build Annex from the repository in this `folder`")
	f.StringVar(&o.inside, "inside", "", "for internal use")
	referenceCommand := f.String("reference", "", "run this `command` as the reference instead of building it")
	ours := f.String("ours", "", "run this `command` as Annex instead of building it")
	only := f.String("only", "", "the `letters` of the scenarios to run, as A,C; default all")
	subjects := f.String("subjects", "", "the `servers` to run: reference, annex or both; default both")
	f.Usage = func() {
		fmt.Fprintf(f.Output(), "Usage: go run ./bench/faults [flags]\n\nFlags:\n")
		f.PrintDefaults()
		fmt.Fprintf(f.Output(), "\nScenarios:\n")
		for _, s := range scenarios {
			fmt.Fprintf(f.Output(), "  %-3s %s\n", s.letter, s.title)
		}
	}
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	o.commands[build.Reference], o.commands[build.Annex] = *referenceCommand, *ours
	if *subjects == "" {
		*subjects = build.Reference + "," + build.Annex
		if o.short {
			*subjects = build.Annex
		}
	}
	var err error
	if o.subjects, err = chosen(*subjects, []string{build.Reference, build.Annex}); err != nil {
		return o, fmt.Errorf("-subjects: %w", err)
	}
	letters := make([]string, len(scenarios))
	for i, s := range scenarios {
		letters[i] = s.letter
	}
	if *only == "" {
		*only = strings.Join(letters, ",")
	}
	if letters, err = chosen(strings.ToUpper(*only), letters); err != nil {
		return o, fmt.Errorf("-only: %w", err)
	}
	for _, s := range scenarios {
		if slices.Contains(letters, s.letter) {
			o.scenarios = append(o.scenarios, s)
		}
	}
	return o, nil
}

// chosen keeps the order of what there is.
func chosen(list string, all []string) ([]string, error) {
	wanted := strings.Split(list, ",")
	for _, name := range wanted {
		if !slices.Contains(all, name) {
			return nil, fmt.Errorf("there is no %q, only %s", name, strings.Join(all, ", "))
		}
	}
	var out []string
	for _, name := range all {
		if slices.Contains(wanted, name) {
			out = append(out, name)
		}
	}
	return out, nil
}

// outside builds what is needed, which may need the network, and goes on in a
// namespace without one.
func outside(ctx context.Context, o options) (err error) {
	programs, err := build.All(ctx, build.Config{Commands: o.commands, Tree: o.tree})
	if err != nil {
		return err
	}
	// Unix sockets lie below this folder: the path must be short.
	dir, err := os.MkdirTemp("", "annex-faults-")
	if err != nil {
		return fmt.Errorf("making a temporary folder: %w", err)
	}
	if o.keep {
		fmt.Fprintln(os.Stderr, "logs and data are in", dir)
	} else {
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	content, err := json.Marshal(programs)
	if err != nil {
		return fmt.Errorf("encoding what was built: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, programsFile), content, 0o600); err != nil {
		return fmt.Errorf("writing down what was built: %w", err)
	}
	return namespace.Run(ctx, append(slices.Clone(os.Args[1:]), "-inside", dir)...)
}
