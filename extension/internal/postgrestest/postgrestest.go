// Package postgrestest runs a PostgreSQL server of the distribution's packages inside a Go test.
package postgrestest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	administrator = "annex"
	port          = 5432 // names the socket; no port is listened at
	limit         = 30 * time.Second
)

// Server is a PostgreSQL server with data of its own, which listens at a Unix socket in a directory that
// goes with the test.
type Server struct {
	t        testing.TB
	bin, dir string
	settings []string

	mu        sync.Mutex
	process   *exec.Cmd
	done      chan struct{}
	databases int
}

// Start runs a server until the test ends; it is skipped where PostgreSQL is not installed. Settings are
// PostgreSQL's own, name=value.
func Start(t testing.TB, settings ...string) *Server {
	t.Helper()
	return StartIn(t, "", settings...)
}

// StartIn is Start with the data in a folder, such as a disk of the test's own; empty: that for temporary files.
func StartIn(t testing.TB, folder string, settings ...string) *Server {
	t.Helper()
	bin := binaries()
	if bin == "" {
		t.Skip("NOT TESTED over PostgreSQL, as it is not installed here: apt-get install postgresql")
	}
	// The path of a socket may be 107 bytes long, those of t.TempDir are often longer.
	dir, err := os.MkdirTemp(folder, "annex-pg-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := &Server{t: t, bin: bin, dir: dir, settings: settings}
	if uid, gid, other := owner(t); other {
		if err := os.Chown(dir, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	initdb := s.command("initdb", "--pgdata", s.data(), "--username", administrator, "--auth", "trust", "--encoding", "UTF8", "--no-locale", "--no-sync", "--no-instructions")
	if out, err := initdb.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	s.Restart()
	t.Cleanup(s.Kill)
	return s
}

// binaries is where the newest server's programs are, or nothing.
func binaries() string {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err == nil && len(found) > 0 {
		slices.Sort(found)
		return filepath.Dir(found[len(found)-1])
	}
	if path, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(path)
	}
	return ""
}

// owner is who the server runs as where that is another than this process: it refuses to run as root.
func owner(t testing.TB) (uid, gid int, other bool) {
	t.Helper()
	if os.Geteuid() != 0 {
		return 0, 0, false
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.Atoi(u.Uid)
		gid, gidErr := strconv.Atoi(u.Gid)
		if uidErr == nil && gidErr == nil {
			return uid, gid, true
		}
	}
	t.Fatal("PostgreSQL does not run as root, and there is no user postgres or nobody")
	return 0, 0, false
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

func (s *Server) command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, program), args...)
	cmd.Dir = s.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if uid, gid, other := owner(s.t); other {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	return cmd
}

// Restart runs the server again, and returns when it answers.
func (s *Server) Restart() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	args := []string{"-D", s.data(), "-k", s.dir, "-p", strconv.Itoa(port), "-c", "listen_addresses="}
	for _, setting := range s.settings {
		args = append(args, "-c", setting)
	}
	s.process = s.command("postgres", args...)
	var said bytes.Buffer
	s.process.Stdout, s.process.Stderr = &said, &said
	if err := s.process.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.done = make(chan struct{})
	go func(process *exec.Cmd, done chan struct{}) {
		defer close(done)
		_ = process.Wait() // it is killed, so it always fails
	}(s.process, s.done)
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	for {
		err := s.execute(ctx, "SELECT 1")
		if err == nil {
			return
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-s.done:
			s.t.Fatalf("PostgreSQL ended: %s", said.String())
		case <-ctx.Done():
			s.t.Fatalf("PostgreSQL does not answer: %v", err)
		}
	}
}

// Kill stops the server at once, as a crash would, and returns when it has gone. It may be gone already.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	// SIGQUIT is PostgreSQL's immediate stop: nobody is waited for, nothing is written.
	if err := s.process.Process.Signal(syscall.SIGQUIT); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.t.Error(err)
	}
	<-s.done
}

// Database makes an empty database and gives its URL.
func (s *Server) Database() string {
	s.t.Helper()
	s.mu.Lock()
	s.databases++
	name := fmt.Sprintf("test%d", s.databases)
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := s.execute(ctx, "CREATE DATABASE "+name); err != nil {
		s.t.Fatal(err)
	}
	return s.url(name)
}

func (s *Server) url(database string) string {
	return fmt.Sprintf("postgres:///%s?host=%s&port=%d&user=%s", database, s.dir, port, administrator)
}

func (s *Server) execute(ctx context.Context, statement string) error {
	conn, err := pgx.Connect(ctx, s.url("postgres"))
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, statement)
	return errors.Join(err, conn.Close(ctx))
}
