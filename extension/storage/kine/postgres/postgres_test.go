package postgres

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/k3s-io/kine/pkg/server"
	"github.com/sirupsen/logrus"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/annex-api/annex/extension/internal/postgrestest"
	"github.com/annex-api/annex/extension/storage"
)

// limit is for what takes milliseconds where nothing is wrong.
const limit = 30 * time.Second

func TestMain(m *testing.M) {
	logrus.SetOutput(io.Discard)
	os.Exit(m.Run())
}

func TestWhatIsWrongIsNamedWithoutThePassword(t *testing.T) {
	for url, want := range map[string]string{
		"postgres://me:s3cret@host":                           "no database",
		"postgres://me:s3cret@host/db?sslmode=maybe":          "sslmode",
		"postgres://me:s3cret@host/db?port=none":              "port",
		"postgres://host/db?password=s3cret&sslmode=maybe":    "sslmode",
		"postgres://me:s3cret@host/db?sslrootcert=/not/there": "/not/there",
	} {
		_, err := storage.Open(t.Context(), url, logr.Discard(), Driver())
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v does not say %q", url, err, want)
			continue
		}
		if strings.Contains(err.Error(), "s3cret") {
			t.Errorf("error %v", err)
		}
	}
}

func TestSeveralHosts(t *testing.T) {
	u := &url.URL{Scheme: "postgres", Host: "a:5432,b:5433", Path: "/db", RawQuery: "sslmode=disable"}
	config, err := settings(u)
	if err != nil {
		t.Fatal(err)
	}
	if config.Host != "a" || len(config.Fallbacks) == 0 || config.Fallbacks[len(config.Fallbacks)-1].Host != "b" {
		t.Errorf("host %s, then %v", config.Host, config.Fallbacks)
	}
	if config.ConnectTimeout == 0 {
		t.Error("a host that does not answer is waited for without an end")
	}
}

func TestADatabaseThatIsAwayAtTheStart(t *testing.T) {
	server := postgrestest.Start(t)
	database := server.Database()
	server.Kill()
	e, err := storage.Open(t.Context(), database, logr.Discard(), Driver())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	var connect *pgconn.ConnectError
	for tick := time.NewTicker(time.Millisecond); !errors.As(e.Check(ctx), &connect); {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("away, and check says %v", e.Check(ctx))
		}
	}
	server.Restart()
	for tick := time.NewTicker(time.Millisecond); e.Check(ctx) != nil; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("there, and check says %v", e.Check(ctx))
		}
	}
}

// A server that stands still holds the lock of all writes.
func TestAWriteThatStandsStillIsEnded(t *testing.T) {
	t.Parallel()
	config, err := pgx.ParseConfig(postgrestest.Start(t).Database())
	if err != nil {
		t.Fatal(err)
	}
	backend := run(t, *config)
	stuck := sql.OpenDB(stdlib.GetConnector(*config, stdlib.OptionAfterConnect(limitSession)))
	defer stuck.Close()
	x, err := stuck.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := x.ExecContext(t.Context(), lock); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	began := time.Now()
	if _, err := backend.Create(ctx, "/k", []byte("v"), 0); err != nil {
		t.Errorf("a write of another server: %v", err)
	}
	took := time.Since(began)
	t.Logf("another server wrote %v after one stood still inside a write", took.Round(time.Millisecond))
	if took < time.Second {
		t.Error("the lock was not held")
	}
	if err := x.Commit(); err == nil {
		t.Error("the write that stood still was done")
	}
}

func TestLimitsOfASession(t *testing.T) {
	t.Parallel()
	config, err := pgx.ParseConfig(postgrestest.Start(t).Database())
	if err != nil {
		t.Fatal(err)
	}
	config.RuntimeParams["lock_timeout"] = "7s" // as the URL may have it
	db := sql.OpenDB(stdlib.GetConnector(*config, stdlib.OptionAfterConnect(limitSession)))
	defer db.Close()
	for name, want := range map[string]string{"idle_in_transaction_session_timeout": "3s", "lock_timeout": "7s"} {
		var got string
		if err := db.QueryRowContext(t.Context(), "SHOW "+name).Scan(&got); err != nil || got != want {
			t.Errorf("%s is %q, want %q: %v", name, got, want, err)
		}
	}
}

func TestAFullDiskIsAnErrorOfTheWriteAlone(t *testing.T) {
	if testing.Short() {
		t.Skip("it fills a disk")
	}
	config, err := pgx.ParseConfig(postgrestest.StartIn(t, smallDisk(t), "autovacuum=off").Database())
	if err != nil {
		t.Fatal(err)
	}
	backend := run(t, *config)
	write := func(name string) error {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		// What is random is not compressed.
		value := make([]byte, 10_000)
		_, _ = rand.Read(value) // it never fails
		_, err := backend.Create(ctx, "/k/"+name, value, 0)
		return err
	}
	if err := write("kept"); err != nil {
		t.Fatal(err)
	}
	// PostgreSQL itself ends when its journal finds no space: the journal gets its next 16 MB now.
	db := sql.OpenDB(stdlib.GetConnector(*config))
	defer db.Close()
	for _, statement := range []string{"SELECT pg_switch_wal()", "CHECKPOINT"} {
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	ballast := fill(t, filepath.Dir(config.Host))
	acknowledged := 0
	for err = nil; err == nil && acknowledged < 1000; acknowledged++ {
		err = write(strconv.Itoa(acknowledged))
	}
	acknowledged-- // the last one failed
	if !errors.Is(err, rpctypes.ErrGRPCNoSpace) {
		t.Errorf("after %d writes: %v", acknowledged, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if _, kvs, err := backend.List(ctx, "/k/", "/k0", 0, 0, false); err != nil || len(kvs) != acknowledged+1 {
		t.Errorf("a list of a full disk: %v, %d objects, %d were acknowledged", err, len(kvs), acknowledged+1)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if err := write("again"); err != nil {
		t.Errorf("a write when there is space again: %v", err)
	}
	t.Logf("%d writes on the full disk, then an error", acknowledged)
}

// smallDisk mounts a disk that others may enter: PostgreSQL does not run as root.
func smallDisk(t *testing.T) string {
	t.Helper()
	folder, err := os.MkdirTemp("", "annex-disk-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(folder); err != nil {
			t.Error(err)
		}
	})
	if err := syscall.Mount("tmpfs", folder, "tmpfs", 0, "size=192m,mode=1777"); err != nil {
		t.Skipf("NOT TESTED with a full disk: only root may mount a small one here: %v", err)
	}
	t.Cleanup(func() {
		// Processes that were just ended may still be on it.
		if err := syscall.Unmount(folder, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return folder
}

// fill writes a file until the disk is full.
func fill(t *testing.T, folder string) (path string) {
	t.Helper()
	file, err := os.Create(filepath.Join(folder, "ballast"))
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{1 << 20, 4 << 10} {
		for block := make([]byte, size); err == nil; {
			_, err = file.Write(block)
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("the disk does not get full: %v", err)
		}
		err = nil
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	return file.Name()
}

// run runs the backend of a database until the test ends.
func run(t *testing.T, config pgx.ConnConfig) server.Backend {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	backend, err := Backend(config, 0)(ctx, &running)
	if err != nil {
		t.Fatal(err)
	}
	return backend
}

func TestErrorsOfPostgreSQL(t *testing.T) {
	for code, want := range map[string]string{
		"53100": "full",    // disk_full
		"53300": "away",    // too_many_connections
		"57P01": "away",    // admin_shutdown
		"57P03": "away",    // cannot_connect_now
		"08006": "away",    // connection_failure
		"25006": "away",    // read_only_sql_transaction, a standby
		"":      "away",    // no answer
		"25P03": "away",    // idle_in_transaction_session_timeout
		"55P03": "away",    // lock_not_available
		"40P01": "away",    // deadlock_detected
		"25P02": "refused", // in_failed_sql_transaction
		"42501": "refused", // insufficient_privilege
		"22021": "refused", // character_not_in_repertoire
	} {
		err := error(&pgconn.PgError{Code: code})
		if code == "" {
			err = io.ErrUnexpectedEOF
		}
		got := "away"
		switch {
		case full(err):
			got = "full"
		case refused(err):
			got = "refused"
		}
		if got != want {
			t.Errorf("%q: %s, want %s", code, got, want)
		}
	}
}
