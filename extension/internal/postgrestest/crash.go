package postgrestest

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Crash ends the server and all processes of its own by SIGKILL, and returns when they have gone.
func (s *Server) Crash() {
	s.t.Helper()
	s.mu.Lock()
	postmaster := s.process.Process.Pid
	s.mu.Unlock()
	children := s.childrenOf(postmaster)
	for _, pid := range append([]int{postmaster}, children...) {
		// One of a connection may have ended by itself.
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			s.t.Fatal(err)
		}
	}
	end := time.After(limit)
	for _, pid := range children {
		for {
			if parent, ok := parentOf(pid); !ok || parent != postmaster {
				break
			}
			select {
			case <-time.After(time.Millisecond):
			case <-end:
				s.t.Fatalf("process %d of PostgreSQL does not end", pid)
			}
		}
	}
	s.Kill() // waits until it has gone
}

func (s *Server) childrenOf(parent int) []int {
	s.t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		s.t.Fatal(err)
	}
	var children []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if p, ok := parentOf(pid); ok && p == parent {
			children = append(children, pid)
		}
	}
	return children
}

// parentOf reads the fourth word of a process' state; the second is its name in brackets.
func parentOf(pid int) (parent int, ok bool) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, false
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(after)
	if len(fields) < 2 {
		return 0, false
	}
	parent, err = strconv.Atoi(fields[1])
	return parent, err == nil
}
