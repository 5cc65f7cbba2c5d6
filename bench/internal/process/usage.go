package process

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// CPU is the processor time, user and system, that the process has used so far.
// Its steps are the kernel's clock ticks, 10 ms on most machines.
func (p *Process) CPU() (time.Duration, error) {
	hz, err := ticksPerSecond()
	if err != nil {
		return 0, err
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID()))
	if err != nil {
		return 0, fmt.Errorf("reading the processor time of %s: %w", p.command.Name, err)
	}
	ticks, err := parseTicks(string(stat))
	if err != nil {
		return 0, fmt.Errorf("reading the processor time of %s: %w", p.command.Name, err)
	}
	return time.Duration(ticks) * time.Second / time.Duration(hz), nil
}

// parseTicks adds utime and stime, fields 14 and 15. The second field, a file
// name in parentheses, may itself hold spaces and parentheses.
func parseTicks(stat string) (int64, error) {
	end := strings.LastIndexByte(stat, ')')
	if end < 0 {
		return 0, fmt.Errorf("no file name in %q", stat)
	}
	fields := strings.Fields(stat[end+1:]) // begins with field 3
	if len(fields) < 13 {
		return 0, fmt.Errorf("only %d fields in %q", len(fields)+2, stat)
	}
	var sum int64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("no number of ticks: %w", err)
		}
		sum += n
	}
	return sum, nil
}

// ticksPerSecond reads AT_CLKTCK from the auxiliary vector.
func ticksPerSecond() (int64, error) {
	const clockTicks = 17
	raw, err := os.ReadFile("/proc/self/auxv")
	if err != nil {
		return 0, fmt.Errorf("reading the clock's ticks: %w", err)
	}
	pairs := make([]uint64, len(raw)/8)
	if err := binary.Read(bytes.NewReader(raw), binary.NativeEndian, pairs); err != nil {
		return 0, fmt.Errorf("reading the clock's ticks: %w", err)
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i] == clockTicks && pairs[i+1] > 0 {
			return int64(pairs[i+1]), nil
		}
	}
	return 0, fmt.Errorf("the kernel does not tell its clock's ticks")
}

// Memory is what a process holds, in bytes.
type Memory struct {
	RSS, PSS int64
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
		target := map[string]*int64{"Rss:": &m.RSS, "Pss:": &m.PSS}[fields[0]]
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
