package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/annex-api/annex/bench/internal/process"
)

const (
	postgresLimit = 30 * time.Second
	postgresPort  = 5432 // it names the socket; no port is listened at
	administrator = "annex"
)

// database is a PostgreSQL server of the distribution's, with its settings as they come: what is
// committed is on the disk.
type database struct {
	dir     string
	process *process.Process
}

func startPostgres(ctx context.Context, dir string) (*database, error) {
	bin, err := postgresFolder()
	if err != nil {
		return nil, err
	}
	who, err := postgresUser()
	if err != nil {
		return nil, err
	}
	d := &database{}
	// It runs as somebody else, who may not look into ours.
	if d.dir, err = os.MkdirTemp("", "annex-pg-"); err != nil {
		return nil, fmt.Errorf("making the folder of PostgreSQL: %w", err)
	}
	if who != nil {
		if err := os.Chown(d.dir, int(who.Uid), int(who.Gid)); err != nil {
			return nil, errors.Join(fmt.Errorf("giving away the folder of PostgreSQL: %w", err), d.stop())
		}
	}
	data := filepath.Join(d.dir, "data")
	initdb := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), "--pgdata", data, "--username", administrator, "--auth", "trust", "--encoding", "UTF8", "--no-locale", "--no-instructions")
	initdb.Dir, initdb.SysProcAttr = d.dir, &syscall.SysProcAttr{Credential: who}
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, errors.Join(fmt.Errorf("making a database: %w: %s", err, out), d.stop())
	}
	d.process, err = process.Start(process.Command{
		Name: "postgres", Path: filepath.Join(bin, "postgres"), Log: filepath.Join(dir, "postgres.log"), Credential: who,
		Args: []string{"-D", data, "-k", d.dir, "-p", strconv.Itoa(postgresPort), "-c", "listen_addresses="},
	})
	if err != nil {
		return nil, errors.Join(err, d.stop())
	}
	socket := filepath.Join(d.dir, fmt.Sprintf(".s.PGSQL.%d", postgresPort))
	err = d.process.Until(ctx, "PostgreSQL to listen", postgresLimit, 50*time.Millisecond, func(context.Context) (bool, error) {
		_, err := os.Stat(socket)
		return err == nil, nil
	})
	if err != nil {
		return nil, errors.Join(err, d.stop())
	}
	return d, nil
}

func (d *database) url() string {
	return fmt.Sprintf("postgres://%s@/postgres?host=%s&port=%d&sslmode=disable", administrator, d.dir, postgresPort)
}

func (d *database) stop() error {
	var err error
	if d.process != nil {
		err = d.process.Stop(postgresLimit)
	}
	return errors.Join(err, os.RemoveAll(d.dir))
}

// postgresFolder is where the newest server's programs are.
func postgresFolder() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err == nil && len(found) > 0 {
		return filepath.Dir(slices.Max(found)), nil
	}
	path, err := exec.LookPath("initdb")
	if err != nil {
		return "", fmt.Errorf("looking for PostgreSQL, Debian's package postgresql; -drivers leaves it out: %w", err)
	}
	return filepath.Dir(path), nil
}

// postgresUser is who it runs as, if that is another than this process: it refuses to run as root.
func postgresUser() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
		if uidErr == nil && gidErr == nil {
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
		}
	}
	return nil, errors.New("PostgreSQL does not run as root, and there is no user postgres or nobody")
}
