package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/annex-api/annex/bench/internal/build"
	"github.com/annex-api/annex/bench/internal/evidence"
	"github.com/annex-api/annex/bench/internal/fixture"
	"github.com/annex-api/annex/bench/internal/namespace"
	"github.com/annex-api/annex/bench/internal/pki"
)

// scenario is one fault, done to one server at a time.
type scenario struct {
	letter, title string
	goal          string
	run           func(ctx context.Context, s *stage, short bool) (outcome, error)
}

var scenarios = []scenario{
	{"A", "three replicas killed and restarted in turn, the endpoints told 2 s late", "0 failed", killedInTurn},
	{"B", "one of three replicas frozen, stays in the endpoints", "at most 1 % late", oneFrozen},
	{"C", "the only replica frozen under 3,000 clients of one user; another user's built-in GETs", "0 failed, p99 < 50 ms", onlyFrozen},
	{"C2", "the same, and these clients ask again 50 ms after each refusal", "0 failed, p50 < 50 ms", heedlessFlood},
	{"D", "the only replica dies and returns", "False < 2 s, resources kept, True < 1 s", onlyDies},
	{"E", "rolling restart, graceful, with 200 open watches", "0 failed, no watch fails", rolling},
	{"E2", "the same, the endpoints told 2 s after SIGTERM", "0 failed, no watch fails", rollingUntold},
	{"F1", "retry storm: every replica answers 503", "attempts at most 1.2 x requests + 300", overloaded},
	{"F2", "retry storm: every replica resets connections", "attempts at most 1.2 x requests + 300", resetting},
	{"F3", "replicas killed in the middle of POSTs", "no POST handled twice", killedUnderPosts},
	{"G", "hostile discovery and OpenAPI documents of other extension servers", "0 late, at most 512 MiB more", hostileDocuments},
	{"H", "OpenAPI and discovery documents nested three million deep", "0 late, at most 512 MiB more", nestedDocuments},
	{cutOne, "one of three replicas cut off by dropped packets, and back", "at most 1 % late, 0 failed", oneCut},
	{cutOnly, "the only replica cut off by dropped packets, in use, and back", "False < 8 s, resources kept, True < 3 s", onlyCut},
	{"K", "flapping certificates, slow headers, slow bodies and changing discovery of other extension servers", "0 late, at most 512 MiB more", unsteady},
	{"L", "every replica of another extension server hangs under 200 clients", "0 late", hanging},
}

const (
	cutOne  = "I"
	cutOnly = "J"
)

// drops says whether the fault is that packets are dropped.
func (sc scenario) drops() bool { return sc.letter == cutOne || sc.letter == cutOnly }

// inside runs the scenarios in the namespace, each on fresh servers, the
// reference first.
func inside(ctx context.Context, o options) error {
	if err := namespace.Enter(); err != nil {
		return err
	}
	content, err := os.ReadFile(filepath.Join(o.inside, programsFile))
	if err != nil {
		return fmt.Errorf("reading what was built: %w", err)
	}
	base := setting{dir: o.inside}
	if err := json.Unmarshal(content, &base.programs); err != nil {
		return fmt.Errorf("decoding what was built: %w", err)
	}
	if base.files, err = pki.Write(o.inside, fixture.WildcardName); err != nil {
		return err
	}
	if err := base.makeUsers(); err != nil {
		return err
	}
	report := report{Short: o.short}
	missed := false
	impossible := namespace.CanDrop(ctx)
	if errors.Is(impossible, exec.ErrNotFound) && o.check && slices.ContainsFunc(o.scenarios, scenario.drops) {
		return impossible // That can be helped.
	}
	for _, sc := range o.scenarios {
		for _, subject := range o.subjects {
			if impossible != nil && sc.drops() {
				fmt.Fprintf(os.Stderr, "%-3s %-9s not run: packets cannot be dropped here: %v\n", sc.letter, subject, impossible)
				report.Rows = append(report.Rows, row{
					Scenario: sc.letter, Title: sc.title, Subject: subject, Goal: sc.goal, NotRun: impossible.Error(),
				})
				continue
			}
			began := time.Now()
			row, err := perform(ctx, base, sc, subject, o.short)
			if err != nil {
				return errors.Join(fmt.Errorf("scenario %s, %s: %w", sc.letter, subject, err), write(o, report))
			}
			missed = missed || subject == build.Annex && !row.Counted
			fmt.Fprintf(os.Stderr, "%-3s %-9s %s after %v\n", sc.letter, subject, row.verdict(), time.Since(began).Round(time.Second))
			report.Rows = append(report.Rows, row)
		}
	}
	if err := write(o, report); err != nil {
		return err
	}
	if missed && o.check {
		return errMissed
	}
	return nil
}

func perform(ctx context.Context, base setting, sc scenario, subject string, short bool) (_ row, err error) {
	s, err := base.open(ctx, subject, sc.letter)
	if err != nil {
		return row{}, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if sc.drops() {
		defer func() { err = errors.Join(err, namespace.Restore(context.WithoutCancel(ctx))) }()
	}
	out, err := sc.run(ctx, s, short)
	if err != nil {
		return row{}, err
	}
	return newRow(sc, subject, out), nil
}

func write(o options, r report) error {
	if err := r.table(os.Stdout); err != nil {
		return fmt.Errorf("printing the table: %w", err)
	}
	return errors.Join(toFile(o.json, r.json), evidence.Replace(o.markdown, "faults", r.markdown))
}

func toFile(path string, content func(io.Writer) error) error {
	if path == "" {
		return nil
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("making %s: %w", path, err)
	}
	if err := errors.Join(content(file), file.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}
