package process

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The clock of this process is the one that it reads for itself.
func TestCPUOfThisProcess(t *testing.T) {
	for began := time.Now(); time.Since(began) < 50*time.Millisecond; {
	}
	var before, after unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &before); err != nil {
		t.Fatal(err)
	}
	got, err := cpuOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &after); err != nil {
		t.Fatal(err)
	}
	if got.Nanoseconds() < before.Nano() || got.Nanoseconds() > after.Nano() {
		t.Errorf("%v, want between %d and %d ns", got, before.Nano(), after.Nano())
	}
}

func TestParseRollup(t *testing.T) {
	got, err := parseRollup("55-66 ---p 00000000 00:00 0 [rollup]\nRss:    200 kB\nPss:    120 kB\nPss_Dirty:   1 kB\nAnonymous:   70 kB\n")
	if want := (Memory{RSS: 200 << 10, PSS: 120 << 10, Anonymous: 70 << 10}); err != nil || got != want {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	if _, err := parseRollup("Rss: 200 kB\n"); err == nil {
		t.Error("a rollup without Pss was taken")
	}
}

func TestUsageOfARunningProcess(t *testing.T) {
	p, err := Start(Command{Name: "busy", Path: "/bin/sh", Args: []string{"-c", "while :; do :; done"}, Log: filepath.Join(t.TempDir(), "log")})
	if err != nil {
		t.Fatal(err)
	}
	err = p.Until(context.Background(), "processor time", time.Minute, time.Millisecond, func(context.Context) (bool, error) {
		used, err := p.CPU()
		return used > 0, err
	})
	if err != nil {
		t.Error(err)
	}
	if m, err := p.Memory(); err != nil || m.RSS < m.PSS || m.Anonymous <= 0 {
		t.Errorf("memory %v, %v", m, err)
	}
	if err := p.Stop(time.Minute); err != nil {
		t.Error(err)
	}
	if _, err := p.CPU(); err == nil {
		t.Error("a stopped process still has processor time")
	}
}

func TestStopKillsWhatDoesNotEnd(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	p, err := Start(Command{Name: "stubborn", Path: "/bin/sh", Args: []string{"-c", "trap '' TERM; while :; do :; done"}, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(time.Nanosecond); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.done:
	default:
		t.Error("the process still runs")
	}
}

func TestUntilTellsThatTheProcessEnded(t *testing.T) {
	p, err := Start(Command{Name: "short", Path: "/bin/sh", Args: []string{"-c", "echo the reason; exit 3"}, Log: filepath.Join(t.TempDir(), "log")})
	if err != nil {
		t.Fatal(err)
	}
	err = p.Until(context.Background(), "nothing", time.Minute, time.Millisecond, func(context.Context) (bool, error) { return false, nil })
	for _, want := range []string{"waiting for nothing", "exit status 3", "the reason"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not say %q", err, want)
		}
	}
}

func TestAFrozenProcessDoesNothingAndCanBeKilled(t *testing.T) {
	dir := t.TempDir()
	p, err := Start(Command{Name: "busy", Path: "/bin/sh", Args: []string{"-c", "while :; do :; done"}, Log: filepath.Join(dir, "log")})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Freeze(); err != nil {
		t.Error(err)
	}
	state := func(wanted string) func(context.Context) (bool, error) {
		return func(context.Context) (bool, error) {
			stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID()))
			return strings.Contains(string(stat), ") "+wanted+" "), err
		}
	}
	if err := p.Until(context.Background(), "the freeze", time.Minute, time.Millisecond, state("T")); err != nil {
		t.Error(err)
	}
	if err := p.Resume(); err != nil {
		t.Error(err)
	}
	if err := p.Until(context.Background(), "going on", time.Minute, time.Millisecond, state("R")); err != nil {
		t.Error(err)
	}
	if err := p.Freeze(); err != nil {
		t.Error(err)
	}
	if p.Ended() {
		t.Error("it has ended although nobody killed it")
	}
	if err := p.Kill(); err != nil || !p.Ended() {
		t.Errorf("ended: %v, %v", p.Ended(), err)
	}
	if err := p.Freeze(); err == nil {
		t.Error("a process that has ended was frozen")
	}
}
