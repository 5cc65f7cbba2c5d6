package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait for something that is expected to happen.
const patience = 3 * time.Minute

// soon is far above the time of what is told at once, on a busy machine too, and
// below the 30 s between probes.
const soon = 15 * time.Second

// maxOutput bounds what is kept of a process's output, in bytes; the oldest goes first.
const maxOutput = 2 << 20

// output keeps what a process writes, and tells who waits for it.
type output struct {
	mu      sync.Mutex
	text    []byte
	changed chan struct{}
}

func newOutput() *output { return &output{changed: make(chan struct{})} }

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text = append(o.text, p...)
	if over := len(o.text) - maxOutput; over > 0 {
		o.text = append([]byte(nil), o.text[over:]...)
	}
	close(o.changed)
	o.changed = make(chan struct{})
	return len(p), nil
}

func (o *output) String() string {
	text, _ := o.read()
	return text
}

func (o *output) read() (string, <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.text), o.changed
}

// process is a running program. It dies with this one.
type process struct {
	name           string
	pid            int
	stdout, stderr *output
	done           chan struct{}
	err            error // how it ended; read after done
}

// command says what to run.
type command struct {
	name string // below the binaries' folder
	args []string
	env  []string // added to a plain environment
	user *syscall.Credential
}

// launch starts a program in an environment without a home of the caller's.
func launch(c command) (*process, error) {
	cmd := exec.Command(binary(c.name), c.args...)
	cmd.Env = append([]string{
		"PATH=" + binaries + ":" + os.Getenv("PATH"), "HOME=" + home, "TMPDIR=" + os.TempDir(),
	}, c.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Credential: c.user}
	p := &process{name: c.name, stdout: newOutput(), stderr: newOutput(), done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.stdout, p.stderr
	// A grandchild that holds the pipes must not keep Wait from returning.
	cmd.WaitDelay = 5 * time.Second
	started := make(chan error)
	go func() {
		// The kernel ties the child's life to the thread that started it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.done)
		err := cmd.Start()
		if err == nil {
			p.pid = cmd.Process.Pid
		}
		started <- err
		if err == nil {
			p.err = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", c.name, err)
	}
	return p, nil
}

// start launches a program that ends with the test, and shows its output when the test fails.
func start(t *testing.T, name string, args ...string) *process {
	t.Helper()
	return startCommand(t, command{name: name, args: args})
}

func startCommand(t *testing.T, c command) *process {
	t.Helper()
	p, err := launch(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.end()
		p.show(t)
	})
	return p
}

// show logs the end of the output when the test has failed.
func (p *process) show(t *testing.T) {
	if t.Failed() {
		t.Logf("%s (process %d, %v) wrote to standard output:\n%s\nto standard error:\n%s", p.name, p.pid, p.state(), tail(p.stdout.String()), tail(p.stderr.String()))
	}
}

func (p *process) state() string {
	select {
	case <-p.done:
		return fmt.Sprintf("ended: %v", p.err)
	default:
		return "running"
	}
}

func tail(s string) string {
	const most = 16 << 10
	if len(s) > most {
		return "..." + s[len(s)-most:]
	}
	return s
}

// signal is harmless after the end.
func (p *process) signal(s syscall.Signal) {
	select {
	case <-p.done:
	default:
		_ = syscall.Kill(p.pid, s) // it may end at this moment
	}
}

// end asks the process to end, insists after a while, and waits for it.
func (p *process) end() {
	p.signal(syscall.SIGTERM)
	timer := time.NewTimer(20 * time.Second)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
		p.kill()
	}
}

// kill ends the process as a crash does, and waits for it.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.done
}

// exitCode waits for the end.
func (p *process) exitCode(t *testing.T) int {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
		t.Fatalf("%s still runs after %v", p.name, patience)
	}
	var exit *exec.ExitError
	switch {
	case p.err == nil:
		return 0
	case errors.As(p.err, &exit):
		return exit.ExitCode()
	}
	t.Fatalf("%s: %v", p.name, p.err)
	return -1
}

// awaitOutput waits until an output contains text, and returns all of it.
func (p *process) awaitOutput(o *output, text string) (string, error) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		all, changed := o.read()
		if strings.Contains(all, text) {
			return all, nil
		}
		select {
		case <-changed:
		case <-p.done:
			if all = o.String(); strings.Contains(all, text) {
				return all, nil
			}
			return "", fmt.Errorf("%s ended (%v) before it wrote %q: %s", p.name, p.err, text, tail(p.stderr.String()))
		case <-timer.C:
			return "", fmt.Errorf("%s did not write %q in %v: %s", p.name, text, patience, tail(all))
		}
	}
}

// run runs a program to its end.
func run(t *testing.T, c command) (code int, stdout, stderr string) {
	t.Helper()
	p, err := launch(c)
	if err != nil {
		t.Fatal(err)
	}
	defer p.kill()
	code = p.exitCode(t)
	return code, p.stdout.String(), p.stderr.String()
}

// children returns the processes that pid has started and that still run.
func children(t *testing.T, pid int) []int {
	t.Helper()
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, list := range lists {
		text, err := os.ReadFile(list)
		if err != nil {
			continue // the thread has ended
		}
		for field := range bytes.FieldsSeq(text) {
			var child int
			if _, err := fmt.Sscan(string(field), &child); err == nil {
				pids = append(pids, child)
			}
		}
	}
	return pids
}

// eventually polls until check returns nil.
func eventually(t *testing.T, what string, check func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := poll(ctx, what, check); err != nil {
		t.Fatal(err)
	}
}

func poll(ctx context.Context, what string, check func(ctx context.Context) error) error {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	var last error
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil || last == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, last)
		case <-ticker.C:
		}
	}
}
