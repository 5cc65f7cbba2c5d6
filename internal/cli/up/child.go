package up

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

// child is a process of our own binary, in a process group of its own so that Ctrl-C reaches it
// through us only.
type child struct {
	pid  int
	done chan struct{}
	err  error // how it ended; read after done
}

// startChild runs our binary with args. It closes log when the child has ended. Files become
// descriptors 3 and up; they stay the caller's.
func startChild(args []string, log io.WriteCloser, files ...*os.File) (*child, error) {
	binary, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find our own binary: %w", err)
	}
	cmd := exec.Command(binary, args...)
	cmd.Args[0] = os.Args[0] // the name decides which program the binary is
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = files
	cmd.WaitDelay = outputGrace
	cmd.SysProcAttr = childAttributes()
	c := &child{done: make(chan struct{})}
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
		if err := log.Close(); err != nil && c.err == nil {
			c.err = err
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s %s: %w", binary, args[0], err)
	}
	return c, nil
}

// ended is closed when the child has ended; for no child, never.
func (c *child) ended() <-chan struct{} {
	if c == nil {
		return nil
	}
	return c.done
}

// stop ends the child and whatever it started, by force after grace.
func (c *child) stop(grace time.Duration) error {
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

func (c *child) signal(s syscall.Signal) error {
	if err := syscall.Kill(-c.pid, s); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("send %v to process %d: %w", s, c.pid, err)
	}
	return nil
}
