// Package child runs programs that end when this process does.
package child

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// outputGrace bounds the wait for output of what the child itself started.
const outputGrace = 2 * time.Second

// Process is a child in a process group of its own, so that Ctrl-C reaches it through us only.
type Process struct {
	pid  int
	done chan struct{}
	err  error // read after done
}

// StartSelf runs our own binary with args, as Start does.
func StartSelf(args []string, log io.WriteCloser, files ...*os.File) (*Process, error) {
	binary, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find our own binary: %w", err)
	}
	cmd := exec.Command(binary, args...)
	cmd.Args[0] = os.Args[0] // the name decides which program the binary is
	return Start(cmd, log, files...)
}

// Start runs a command that has its path, arguments, folder and environment. Its output goes to
// log, which is closed when the child has ended, or where it does not start. Files become
// descriptors 3 and up; they stay the caller's.
func Start(cmd *exec.Cmd, log io.WriteCloser, files ...*os.File) (*Process, error) {
	cmd.ExtraFiles = files
	return start(cmd, log, log, log.Close)
}

// StartTo is Start with two streams that stay open.
func StartTo(cmd *exec.Cmd, out, errs io.Writer) (*Process, error) {
	return start(cmd, out, errs, func() error { return nil })
}

func start(cmd *exec.Cmd, out, errs io.Writer, after func() error) (*Process, error) {
	cmd.Stdout, cmd.Stderr = out, errs
	cmd.WaitDelay = outputGrace
	cmd.SysProcAttr = attributes()
	c := &Process{done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The kernel ties the child's life to the thread that started it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(c.done)
		err := cmd.Start()
		if err == nil {
			c.pid = cmd.Process.Pid
		}
		started <- err
		if err == nil {
			c.err = cmd.Wait()
		}
		if err := after(); err != nil && c.err == nil {
			c.err = err
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	return c, nil
}

// Ended is closed when the child has ended; for no child, never.
func (c *Process) Ended() <-chan struct{} {
	if c == nil {
		return nil
	}
	return c.done
}

// Err says how the child ended, nil for exit code 0. It is called after Ended.
func (c *Process) Err() error { return c.err }

// Stop ends the child and whatever it started, by force after grace. It may be called again to
// be less patient.
func (c *Process) Stop(grace time.Duration) error {
	select {
	case <-c.done:
		return nil
	default:
	}
	if err := c.signal(syscall.SIGTERM); err != nil {
		return err
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-c.done:
		return nil
	case <-timer.C:
	}
	err := c.signal(syscall.SIGKILL)
	<-c.done
	return err
}

func (c *Process) signal(s syscall.Signal) error {
	if err := syscall.Kill(-c.pid, s); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("send %v to process %d: %w", s, c.pid, err)
	}
	return nil
}
