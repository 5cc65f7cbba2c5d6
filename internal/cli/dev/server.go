package dev

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/annex-api/annex/internal/child"
	"github.com/annex-api/annex/internal/cli/terminal"
	"github.com/annex-api/annex/internal/devloop"
)

// server is a process of the project's program.
type server struct {
	*child.Process
	ready, ended chan struct{}
	err          error // read after ended
}

func (s *server) Ready() <-chan struct{} { return s.ready }
func (s *server) Ended() <-chan struct{} { return s.ended }
func (s *server) Err() error             { return s.err }

// workshop is the project as devloop sees it.
type workshop struct {
	project
	lines  *terminal.Lines
	own    io.Writer // what we say
	colour bool
	socket *os.File
	// args are those of the server beside the descriptors.
	args []string
	// served is told when a server is ready.
	served func()
}

// Start starts the program with the socket and a pipe that tells when it is ready.
func (w *workshop) Start(number int) (devloop.Server, error) {
	program, err := w.takeProgram(number)
	if err != nil {
		return nil, fmt.Errorf("give the server its program: %w", err)
	}
	read, write, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make a pipe for the server: %w", err), os.Remove(program))
	}
	cmd := exec.Command(program, append([]string{"--listen-fd=3", "--ready-fd=4"}, w.args...)...)
	cmd.Dir = w.module
	log := w.lines.From(fmt.Sprintf("server %d", number), terminal.Cyan, nil)
	process, err := child.Start(cmd, log, w.socket, write)
	err = errors.Join(err, write.Close())
	if err != nil {
		return nil, errors.Join(err, read.Close(), os.Remove(program))
	}
	s := &server{Process: process, ready: make(chan struct{}), ended: make(chan struct{})}
	told := make(chan struct{})
	go func() { // it ends with the process, which closes its end of the pipe
		defer close(told)
		if n, _ := read.Read(make([]byte, 1)); n > 0 {
			close(s.ready)
			w.served()
		}
	}()
	go func() { // devloop waits for ended
		<-process.Ended()
		// Whatever the process started may hold its end of the pipe.
		_ = read.SetReadDeadline(time.Now())
		<-told
		_ = read.Close()
		s.err = process.Err()
		if err := os.Remove(program); err != nil && s.err == nil {
			s.err = err
		}
		close(s.ended)
	}()
	return s, nil
}

// Stop also waits until nothing of the server is left.
func (s *server) Stop(grace time.Duration) error {
	err := s.Process.Stop(grace)
	if err == nil {
		<-s.ended
	}
	return err
}
