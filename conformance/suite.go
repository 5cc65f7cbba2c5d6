package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// result is what one suite did. Counts are of top-level tests.
type result struct {
	suite                   string
	passed, failed, skipped int
	failures                []string // names of failed tests, subtests included
	broken                  string   // why the suite failed as a whole, if it did
	took                    time.Duration
	log                     string
}

func (r result) ok() bool { return r.failed == 0 && r.broken == "" && r.passed > 0 }

// event is one line of `go test -json`.
type event struct {
	Action  string
	Test    string
	Output  string
	Elapsed float64 // seconds
}

func packageOf(suite string) string {
	return referenceModule + "/test/integration/" + suite
}

// runSuite runs one suite's tests. A test that fails is a result; an error means
// that the suite could not be run at all.
func runSuite(ctx context.Context, m module, o options, suite, etcdDir string) (result, error) {
	r := result{suite: suite, log: filepath.Join(o.logs, strings.ReplaceAll(suite, "/", "-")+".log")}
	if o.reference {
		r.log = strings.TrimSuffix(r.log, ".log") + "-reference.log"
	}
	if err := os.MkdirAll(o.logs, 0o700); err != nil {
		return r, fmt.Errorf("making the log folder: %w", err)
	}
	log, err := os.OpenFile(r.log, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return r, fmt.Errorf("making the log: %w", err)
	}
	defer log.Close()
	// Sockets of etcd lie below TMPDIR: the path must be short.
	temp, err := os.MkdirTemp("", "annex-c-")
	if err != nil {
		return r, fmt.Errorf("making a temporary folder: %w", err)
	}
	defer os.RemoveAll(temp)

	ctx, cancel := context.WithTimeout(ctx, o.timeout+buildLimit)
	defer cancel()
	args := []string{"test", "-mod=mod", "-json", "-count=1", "-timeout=" + o.timeout.String()}
	args = append(args, packageOf(suite))
	args = append(args, o.testArgs...)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = m.dir
	cmd.Env = append(
		environment(m.dir),
		"TMPDIR="+temp,
		"PATH="+etcdDir+string(os.PathListSeparator)+os.Getenv("PATH"),
		// The tests use an etcd that already listens here; none does on this port.
		"KUBE_INTEGRATION_ETCD_URL=http://127.0.0.1:1",
	)
	// A group of its own, so that etcd and the test binary end with go test.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	if err != nil {
		return r, fmt.Errorf("making a pipe: %w", err)
	}
	fmt.Printf("\n%s, log in %s\n", suite, r.log)
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return r, fmt.Errorf("starting go test: %w", err)
	}
	readErr := r.read(out, log, os.Stdout)
	if readErr != nil {
		// Nobody reads the pipe any more: go test would block on it.
		cancel()
	}
	waitErr := cmd.Wait()
	r.took = time.Since(start)
	// The group outlives its leader if a test left an etcd behind.
	if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return r, fmt.Errorf("ending what the tests left running: %w", err)
	}
	switch {
	case ctx.Err() != nil && readErr == nil:
		return r, ctx.Err()
	case readErr != nil:
		return r, fmt.Errorf("reading the output of go test: %w", readErr)
	case waitErr != nil && r.failed == 0:
		r.broken = fmt.Sprintf("go test: %v, see the log", waitErr)
	case r.passed+r.failed == 0:
		r.broken = "no test ran"
	}
	return r, nil
}

// read follows the events of one suite: everything to log, a line for each
// finished top-level test to progress.
func (r *result) read(events io.Reader, log, progress io.Writer) error {
	lines := bufio.NewReader(events)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) != nil {
				// Not an event: the go command speaks for itself here.
				e = event{Action: "output", Output: string(line)}
			}
			if _, err := io.WriteString(log, e.Output); err != nil {
				return err
			}
			r.count(e, progress)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (r *result) count(e event, progress io.Writer) {
	if e.Test == "" {
		return
	}
	if e.Action == "fail" {
		r.failures = append(r.failures, e.Test)
	}
	if strings.Contains(e.Test, "/") {
		return
	}
	switch e.Action {
	case "pass":
		r.passed++
	case "fail":
		r.failed++
	case "skip":
		r.skipped++
	default:
		return
	}
	fmt.Fprintf(progress, "  %s %s %.1fs\n", e.Action, e.Test, e.Elapsed)
}

// report prints the summary; it errs unless every suite passed.
func report(w io.Writer, results []result) error {
	bad := 0
	fmt.Fprintf(w, "\n%-22s %7s %7s %8s %9s\n", "suite", "passed", "failed", "skipped", "time")
	for _, r := range results {
		verdict := "ok"
		if !r.ok() {
			bad++
			verdict = "FAILED"
		}
		fmt.Fprintf(w, "%-22s %7d %7d %8d %9s  %s\n", r.suite, r.passed, r.failed, r.skipped, seconds(r.took), verdict)
	}
	for _, r := range results {
		if r.broken != "" {
			fmt.Fprintf(w, "%s: %s (%s)\n", r.suite, r.broken, r.log)
		}
		for _, name := range r.failures {
			fmt.Fprintf(w, "%s: failed: %s (%s)\n", r.suite, name, r.log)
		}
	}
	if bad > 0 {
		return fmt.Errorf("%d of %d suites failed", bad, len(results))
	}
	return nil
}

func seconds(d time.Duration) string { return d.Round(100 * time.Millisecond).String() }
