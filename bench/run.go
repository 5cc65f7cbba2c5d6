package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/annex-api/annex/bench/internal/build"
	"github.com/annex-api/annex/bench/internal/evidence"
	"github.com/annex-api/annex/bench/internal/fixture"
	"github.com/annex-api/annex/bench/internal/host"
	"github.com/annex-api/annex/bench/internal/pki"
	"github.com/annex-api/annex/bench/internal/process"
	"github.com/annex-api/annex/bench/internal/report"
	"github.com/annex-api/annex/bench/internal/work"
)

const backendGrace = 5 * time.Second

// bench is one run: what does not change between its rounds.
type bench struct {
	options
	programs build.Programs
	dir      string
	files    pki.Files
	caBundle []byte
	port     int // of the extension server
	versions map[string]string
}

func run(ctx context.Context, o options) (err error) {
	b := bench{options: o, versions: map[string]string{}}
	if b.programs, err = build.All(ctx, build.Config{Commands: o.commands}); err != nil {
		return err
	}
	// Unix sockets lie below this folder: the path must be short.
	if b.dir, err = os.MkdirTemp("", "annex-bench-"); err != nil {
		return fmt.Errorf("making a temporary folder: %w", err)
	}
	if o.keep {
		fmt.Fprintln(os.Stderr, "logs and data are in", b.dir)
	} else {
		defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	}
	if b.files, err = pki.Write(b.dir, fixture.WildcardName); err != nil {
		return err
	}
	if b.caBundle, err = os.ReadFile(b.files.CA); err != nil {
		return fmt.Errorf("reading the CA: %w", err)
	}
	backend, err := b.startBackend()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, backend.Stop(backendGrace)) }()

	if o.growth {
		return b.growth(ctx)
	}
	return b.compare(ctx)
}

// compare does every work on each subject, round after round: at rest side by
// side, the others in turn.
func (b *bench) compare(ctx context.Context) error {
	var samples []report.Sample
	for round := 1; round <= b.rounds; round++ {
		subjects := []string{reference, ours}
		if round%2 == 0 {
			slices.Reverse(subjects) // Neither is always the first.
		}
		rest, turns := work.Split(b.works)
		if len(rest) > 0 {
			got, err := b.rest(ctx, subjects, round, rest)
			if err != nil {
				return fmt.Errorf("round %d: %w", round, err)
			}
			samples = append(samples, got...)
		}
		if slices.ContainsFunc(turns, work.Work.Layer) {
			subjects = slices.Insert(subjects, len(subjects)*(round%2), bare) // the last, then the first
		}
		if len(turns) > 0 {
			got, err := b.measure(ctx, subjects, round, turns)
			if err != nil {
				return fmt.Errorf("round %d: %w", round, err)
			}
			samples = append(samples, got...)
		}
	}
	r := report.Report{
		Header: slices.Concat(b.header(), b.workload()), Rows: report.Compare(samples, report.Subjects{Reference: reference, Ours: ours, Bare: bare}), Samples: samples,
	}
	if err := r.Table(os.Stdout); err != nil {
		return fmt.Errorf("printing the table: %w", err)
	}
	return errors.Join(save(b.json, r.JSON), evidence.Replace(b.markdown, "works", r.Markdown))
}

// start starts a subject; dir is for it alone.
func (b *bench) start(ctx context.Context, subject, dir string) (_ *host.Host, err error) {
	if subject == bare {
		return host.StartBare(ctx, host.Bare{Name: subject, Path: b.programs.Bare, Dir: dir, Files: b.files, Port: b.port})
	}
	h, err := host.Start(ctx, host.Config{
		Name: subject, Command: b.programs.Servers[subject], Etcd: b.programs.Etcd, Dir: dir, Files: b.files,
	})
	if err != nil {
		return nil, err
	}
	if b.versions[subject], err = version(ctx, h); err != nil {
		return nil, errors.Join(err, h.Stop())
	}
	return h, nil
}

// startBackend starts the extension server on a socket that is open already, so
// that nobody needs to wait for it.
func (b *bench) startBackend() (*process.Process, error) {
	socket, port, err := host.Socket()
	if err != nil {
		return nil, err
	}
	defer socket.Close()
	b.port = port
	return process.Start(process.Command{
		Name: "backend", Path: b.programs.Backend, Log: filepath.Join(b.dir, "backend.log"), Files: []*os.File{socket},
		Args: []string{"-listen-fd=3", "-cert=" + b.files.Extension, "-key=" + b.files.ExtensionKey, "-client-ca=" + b.files.ProxyCA},
	})
}

func version(ctx context.Context, h *host.Host) (string, error) {
	body, err := h.Get(ctx, "/version", nil)
	if err != nil {
		return "", err
	}
	var v struct{ GitVersion, GoVersion string }
	if err := json.Unmarshal(body, &v); err != nil {
		return "", fmt.Errorf("decoding the version: %w", err)
	}
	return v.GitVersion + ", " + v.GoVersion, nil
}

func (b *bench) header() []report.Fact {
	return []report.Fact{
		{Name: reference, Value: b.versions[reference]},
		{Name: ours, Value: b.versions[ours]},
		{Name: "cpu", Value: cpuModel() + ", " + strconv.Itoa(runtime.NumCPU()) + " usable"},
		{Name: "GOMAXPROCS", Value: strconv.Itoa(runtime.GOMAXPROCS(0))},
		{Name: "client", Value: runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH},
	}
}

func (b *bench) workload() []report.Fact {
	w := b.workloads
	return []report.Fact{
		{Name: "workload", Value: fmt.Sprintf("%d rounds, %d APIServices, %d requests, %d at a time, %d watches, idle %d s", b.rounds, w.APIServices, w.Requests, w.Concurrency, w.Watches, w.IdleSeconds)},
		{Name: "events", Value: fmt.Sprintf("%d a second to each of %d watches, %d deliveries a second, for %d s", w.EventRate, w.EventWatches, w.EventRate*w.EventWatches, w.EventSeconds)},
	}
}

func cpuModel() string {
	file, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return "unknown"
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if name, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}
