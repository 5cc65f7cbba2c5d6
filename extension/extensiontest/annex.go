package extensiontest

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"testing"
	"time"
)

const (
	// annexGrace bounds the end of annex.
	annexGrace = 15 * time.Second
	// annexPipes bounds the wait for what annex itself started and left.
	annexPipes = 2 * time.Second
	// maxLog and maxPath bound what is kept of its output, in bytes.
	maxLog, maxPath = 64 << 10, 4 << 10
)

// annex is a host that runs as a process of its own. It ends with this one.
type annex struct {
	process    *os.Process
	kubeconfig chan string
	log        *lastOutput
	ended      chan struct{}
	err        error // how it ended; read after ended
}

// startAnnex runs annex until the test ends, and gives its kubeconfig once it is ready.
func startAnnex(t testing.TB) (kubeconfig string) {
	t.Helper()
	a, err := launchAnnex(cmp.Or(os.Getenv(HostBinary), "annex"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.stop(annexGrace); err != nil {
			t.Errorf("the host: %v", err)
		}
		if t.Failed() {
			t.Logf("the host said at last:\n%s", a.log)
		}
	})
	if kubeconfig, err = a.ready(hostTimeout); err != nil {
		t.Fatal(err)
	}
	return kubeconfig
}

// launchAnnex starts a program that is called as annex is.
func launchAnnex(program string) (*annex, error) {
	path, err := exec.LookPath(program)
	if err != nil {
		return nil, fmt.Errorf("there is no host for this test: %w; install annex, or name it by %s, or name the kubeconfig of a host that runs by %s", err, HostBinary, HostKubeconfig)
	}
	a := &annex{kubeconfig: make(chan string, 1), log: &lastOutput{}, ended: make(chan struct{})}
	cmd := exec.Command(path, "up", "--ephemeral", "--quiet", "--verbose")
	cmd.Stdout, cmd.Stderr = &firstLine{to: a.kubeconfig}, a.log
	cmd.WaitDelay = annexPipes
	cmd.SysProcAttr = endsWithUs()
	started := make(chan error)
	go func() {
		// Linux ties the life of a child to the thread that started it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(a.ended)
		err := cmd.Start()
		if err == nil {
			a.process = cmd.Process
		}
		started <- err
		if err == nil {
			a.err = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start the host: %w", err)
	}
	return a, nil
}

// ready waits until it prints the path of its kubeconfig, which it does once it is ready.
func (a *annex) ready(within time.Duration) (kubeconfig string, err error) {
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case kubeconfig = <-a.kubeconfig:
		return kubeconfig, nil
	case <-a.ended:
		return "", fmt.Errorf("the host ended before it was ready (%v):\n%s", a.err, a.log)
	case <-timer.C:
		return "", fmt.Errorf("the host is not ready after %v:\n%s", within, a.log)
	}
}

// stop ends it, by force after grace. An end of its own before that is an error.
func (a *annex) stop(grace time.Duration) error {
	select {
	case <-a.ended:
		return fmt.Errorf("it ended by itself: %v", a.err)
	default:
	}
	if a.process.Signal(os.Interrupt) == nil {
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case <-a.ended:
			return a.err
		case <-timer.C:
		}
	}
	if err := a.process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("end it: %w", err)
	}
	<-a.ended
	return fmt.Errorf("it did not end within %v", grace)
}

// firstLine sends the first line that is written to it. One goroutine writes.
type firstLine struct {
	text []byte
	to   chan<- string // with room for one; nil once it is sent
}

// Write implements io.Writer.
func (f *firstLine) Write(p []byte) (int, error) {
	if f.to == nil {
		return len(p), nil
	}
	f.text = append(f.text, p[:min(len(p), maxPath)]...)
	if line, _, whole := bytes.Cut(f.text, []byte("\n")); whole || len(f.text) >= maxPath {
		f.to <- string(line)
		f.text, f.to = nil, nil
	}
	return len(p), nil
}

// lastOutput keeps the end of what is written to it.
type lastOutput struct {
	mu   sync.Mutex
	text []byte
}

// Write implements io.Writer.
func (l *lastOutput) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, p...)
	if over := len(l.text) - maxLog; over > 0 {
		l.text = append([]byte(nil), l.text[over:]...)
	}
	return len(p), nil
}

func (l *lastOutput) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.text)
}
