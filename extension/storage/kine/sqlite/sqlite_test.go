package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/go-logr/logr"
	"github.com/k3s-io/kine/pkg/drivers"
	kinesqlite "github.com/k3s-io/kine/pkg/drivers/sqlite"
	"github.com/k3s-io/kine/pkg/server"
	"github.com/sirupsen/logrus"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/annex-api/annex/extension/storage"
)

func TestMain(m *testing.M) {
	logrus.SetOutput(io.Discard)
	os.Exit(m.Run())
}

func TestWhatIsWrongIsNamed(t *testing.T) {
	text := filepath.Join(t.TempDir(), "notes.txt")
	if err := os.WriteFile(text, []byte("some notes of mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	for url, want := range map[string]string{
		"sqlite://state.db":             "absolute path",
		"sqlite:///var/lib/":            "absolute path",
		"sqlite:///a.db?mode=ro":        "no parameters",
		"sqlite:///a%23b.db":            "characters",
		"sqlite://" + text:              "no file of SQLite",
		"sqlite:///proc/nothing/any.db": "/proc/nothing",
	} {
		_, err := storage.Open(t.Context(), url, logr.Discard(), Driver())
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v does not say %q", url, err, want)
		}
	}
	if after, err := os.ReadFile(text); err != nil || string(after) != "some notes of mine" {
		t.Errorf("the file of another was changed to %q %v", after, err)
	}
}

func TestTheFileIsForItsUserAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "state.db")
	backend := start(t, path)
	if _, err := backend.Create(t.Context(), "/k", []byte("v"), 0); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{path, path + "-wal"} {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v %v", name, info, err)
		}
	}
}

// kine answers a create that the database refused with success, and an update with a conflict.
func TestARefusedWriteIsAnError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	backend := start(t, path)
	revision, err := backend.Create(t.Context(), "/refused/old", []byte("v"), 0)
	if err != nil {
		t.Fatal(err)
	}
	execute(t, path, `CREATE TRIGGER refuse BEFORE INSERT ON kine WHEN NEW.name LIKE '/refused/%' BEGIN SELECT RAISE(ABORT, 'refused'); END`)
	if got, err := backend.Create(t.Context(), "/refused/new", []byte("v"), 0); err == nil || errors.Is(err, server.ErrKeyExists) {
		t.Errorf("create: revision %d, error %v", got, err)
	}
	if _, _, done, err := backend.Update(t.Context(), "/refused/old", []byte("w"), revision, 0); err == nil || done {
		t.Errorf("update: done %v, error %v", done, err)
	}
	if _, _, done, err := backend.Delete(t.Context(), "/refused/old", revision); err == nil || done {
		t.Errorf("delete: done %v, error %v", done, err)
	}
	if _, err := backend.Create(t.Context(), "/other", []byte("v"), 0); err != nil {
		t.Errorf("another create: %v", err)
	}
	if _, err := backend.Create(t.Context(), "/other", []byte("v"), 0); !errors.Is(err, server.ErrKeyExists) {
		t.Errorf("the same again: %v", err)
	}
}

// kine says what its own poll saw last, up to a second late.
func TestTheCurrentRevisionIsTheDatabases(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	writer, reader := start(t, path), start(t, path)
	for i := range 10 {
		written, err := writer.Create(t.Context(), fmt.Sprintf("/k/%d", i), []byte("v"), 0)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := reader.CurrentRevision(t.Context()); err != nil || got < written {
			t.Fatalf("written at %d, elsewhere the current revision is %d, %v", written, got, err)
		}
	}
}

func TestAFullDiskIsAnErrorOfTheWriteAlone(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"); err != nil {
		t.Skipf("NOT TESTED with a full disk: only root may mount a small one here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	backend := start(t, filepath.Join(dir, "state.db"))
	if _, err := backend.Create(t.Context(), "/k/kept", []byte("v"), 0); err != nil {
		t.Fatal(err)
	}
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	acknowledged := 0
	var err error
	for ; err == nil && acknowledged < 1000; acknowledged++ {
		_, err = backend.Create(t.Context(), fmt.Sprintf("/k/%d", acknowledged), make([]byte, 10_000), 0)
	}
	acknowledged-- // the last one failed
	if !errors.Is(err, rpctypes.ErrGRPCNoSpace) {
		t.Errorf("after %d writes: %v", acknowledged, err)
	}
	if _, kvs, err := backend.List(t.Context(), "/k/", "/k0", 0, 0, false); err != nil || len(kvs) != acknowledged+1 {
		t.Errorf("a list of a full disk: %v, %d objects, %d were acknowledged", err, len(kvs), acknowledged+1)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if _, err := backend.Create(t.Context(), "/k/again", make([]byte, 10_000), 0); err != nil {
		t.Errorf("a write when there is space again: %v", err)
	}
}

// start runs the backend of a file until the test ends.
func start(t *testing.T, path string) server.Backend {
	t.Helper()
	if err := prepare(path); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	backend, err := Backend(path, 0)(ctx, &running)
	if err != nil {
		t.Fatal(err)
	}
	return backend
}

func execute(t *testing.T, path, statement string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	_, dialect, err := kinesqlite.NewVariant(ctx, &running, "sqlite3", &drivers.Config{DataSourceName: path + "?" + parameters})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dialect.DB.ExecContext(ctx, statement); err != nil {
		t.Fatal(err)
	}
}
