// Package process runs the programs that are compared and reads from the kernel what they cost.
package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Command is what to run. Log gets the program's output.
type Command struct {
	Name  string
	Path  string
	Args  []string
	Log   string
	Files []*os.File // inherited from file descriptor 3 on
	// Credential is who it runs as, if that is another than this process.
	Credential *syscall.Credential
}

// Process is a program that was started.
type Process struct {
	command Command
	cmd     *exec.Cmd
	done    chan struct{}
	err     error // valid once done is closed
}

// Start runs a command in a process group of its own. It ends with us at the
// latest, even when we are killed.
func Start(c Command) (*Process, error) {
	log, err := os.OpenFile(c.Log, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("making the log of %s: %w", c.Name, err)
	}
	defer log.Close()
	cmd := exec.Command(c.Path, c.Args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = c.Files
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Credential: c.Credential}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", c.Name, err)
	}
	p := &Process{command: c, cmd: cmd, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// Name is the command's.
func (p *Process) Name() string { return p.command.Name }

// PID is the process's id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Stop asks the process to end, ends it after grace, and waits until it has.
func (p *Process) Stop(grace time.Duration) error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stopping %s: %w", p.command.Name, err)
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(grace):
	}
	return p.Kill()
}

// Freeze stops the process where it stands, as a machine that hangs does: the
// kernel still takes its connections. Resume lets it go on.
func (p *Process) Freeze() error { return p.signal(syscall.SIGSTOP) }

// Resume ends what Freeze began.
func (p *Process) Resume() error { return p.signal(syscall.SIGCONT) }

func (p *Process) signal(s syscall.Signal) error {
	if err := p.cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("sending %v to %s: %w", s, p.command.Name, err)
	}
	return nil
}

// Kill ends the process at once, frozen or not, and waits until it has ended.
func (p *Process) Kill() error {
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("killing %s: %w", p.command.Name, err)
	}
	<-p.done
	return nil
}

// Ended says whether the process has ended.
func (p *Process) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Until calls check, again and again at an interval, until it answers true. It errs when the process ends, check
// fails for good, or the limit has passed; then the error ends with the log's last lines.
func (p *Process) Until(ctx context.Context, what string, limit, interval time.Duration, check func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		ok, err := check(ctx)
		if ok {
			return nil
		}
		if err != nil && ctx.Err() == nil {
			return p.failure(fmt.Errorf("waiting for %s: %w", what, err))
		}
		select {
		case <-p.done:
			return p.failure(fmt.Errorf("waiting for %s: %s ended: %w", what, p.command.Name, errOrClean(p.err)))
		case <-ctx.Done():
			return p.failure(fmt.Errorf("waiting for %s: %w", what, ctx.Err()))
		case <-tick.C:
		}
	}
}

var errClean = errors.New("exit status 0")

func errOrClean(err error) error {
	if err == nil {
		return errClean
	}
	return err
}

func (p *Process) failure(err error) error {
	const lines = 15
	log, readErr := os.ReadFile(p.command.Log)
	if readErr != nil {
		return fmt.Errorf("%w (no log: %v)", err, readErr)
	}
	all := strings.Split(strings.TrimSpace(string(log)), "\n")
	return fmt.Errorf("%w; the log of %s ends with:\n%s", err, p.command.Name, strings.Join(all[max(0, len(all)-lines):], "\n"))
}
