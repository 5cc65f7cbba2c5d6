package child_test

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/annex-api/annex/internal/child"
)

// TestMain makes the test binary a child that does not mind SIGTERM when its argument says so.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "stubborn" {
		signal.Notify(make(chan os.Signal, 1), syscall.SIGTERM)
		os.Stdout.WriteString("ready\n")
		select {}
	}
	os.Exit(m.Run())
}

func TestStubbornChildIsKilled(t *testing.T) {
	log := &closable{said: make(chan struct{})}
	c, err := child.StartSelf([]string{"stubborn"}, log)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-log.said:
	case <-time.After(time.Minute):
		t.Fatal("the child does not start")
	}
	if err := c.Stop(50 * time.Millisecond); err != nil {
		t.Error(err)
	}
	<-c.Ended()
	var exit *exec.ExitError
	if !errors.As(c.Err(), &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("it ended with %v, want SIGKILL", c.Err())
	}
	if !log.closed {
		t.Error("the log is open")
	}
}

// closable notes that it was closed and that something was written.
type closable struct {
	once   sync.Once
	said   chan struct{}
	closed bool
}

func (c *closable) Write(p []byte) (int, error) {
	c.once.Do(func() { close(c.said) })
	return len(p), nil
}

func (c *closable) Close() error { c.closed = true; return nil }
