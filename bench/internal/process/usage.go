package process

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// CPU is the processor time, user and system, that the process has used so far,
// in nanoseconds as the kernel's scheduler counts them: what an idle server takes
// in seconds is a few of the clock ticks that /proc tells.
func (p *Process) CPU() (time.Duration, error) {
	used, err := cpuOf(p.PID())
	if err != nil {
		return 0, fmt.Errorf("reading the processor time of %s: %w", p.command.Name, err)
	}
	return used, nil
}

// cpuOf reads the processor clock of a process; clock_getcpuclockid(3) makes the
// clock's number of the process's.
func cpuOf(pid int) (time.Duration, error) {
	const scheduled = 2
	var used unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|scheduled), &used); err != nil {
		return 0, err
	}
	return time.Duration(used.Nano()), nil
}

// Memory is what a process holds, in bytes.
type Memory struct {
	RSS, PSS int64
	// Anonymous is the part of RSS that is of no file: what the process has made itself.
	Anonymous int64
}

// Memory reads the process's resident memory; PSS counts shared pages in part.
func (p *Process) Memory() (Memory, error) {
	rollup, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", p.PID()))
	if err != nil {
		return Memory{}, fmt.Errorf("reading the memory of %s: %w", p.command.Name, err)
	}
	m, err := parseRollup(string(rollup))
	if err != nil {
		return m, fmt.Errorf("reading the memory of %s: %w", p.command.Name, err)
	}
	return m, nil
}

func parseRollup(rollup string) (Memory, error) {
	var m Memory
	for line := range strings.Lines(rollup) {
		fields := strings.Fields(line)
		if len(fields) != 3 || fields[2] != "kB" {
			continue
		}
		target := map[string]*int64{"Rss:": &m.RSS, "Pss:": &m.PSS, "Anonymous:": &m.Anonymous}[fields[0]]
		if target == nil {
			continue
		}
		n, err := strconv.ParseInt(fields[1], 10, 64)
		if err != nil {
			return m, fmt.Errorf("no size in %q: %w", line, err)
		}
		*target = n * 1024
	}
	if m.RSS == 0 || m.PSS == 0 {
		return m, fmt.Errorf("no Rss or no Pss in %q", rollup)
	}
	return m, nil
}
