// Package sqlite keeps objects in a SQLite file, for one server at a time.
//
// What is acknowledged was synced to disk. Without cgo it is SQLite in Go (modernc.org/sqlite), with cgo
// SQLite itself (github.com/mattn/go-sqlite3); both use the same files.
package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/go-logr/logr"
	"github.com/k3s-io/kine/pkg/drivers"
	"github.com/k3s-io/kine/pkg/drivers/generic"
	kinesqlite "github.com/k3s-io/kine/pkg/drivers/sqlite"
	"github.com/k3s-io/kine/pkg/server"

	"github.com/annex-api/annex/extension/storage"
	"github.com/annex-api/annex/extension/storage/kine"
	"github.com/annex-api/annex/extension/storage/kine/internal/sqlbackend"
)

const (
	// parameters make a commit wait for the disk (FULL), and a transaction that writes take its lock at its
	// begin, so that it waits for others in place of failing. kine would rewrite the whole file at every
	// start; free pages are used again without that.
	parameters = "_journal_mode=WAL&_synchronous=FULL&_busy_timeout=30000&_txlock=immediate&_kine_disable_startup_vacuum=1"
	// connections read side by side; the poll and the probe keep one each. There is one writer: SQLite has
	// no more.
	connections = 10

	// header begins every file of SQLite.
	header = "SQLite format 3\x00"
)

// Driver opens sqlite:///file. The file and its directory are made where they are missing, for this user alone.
func Driver() storage.Driver {
	return storage.Driver{Scheme: "sqlite", Example: "sqlite:///var/lib/widgets/state.db", Open: open}
}

func open(_ context.Context, u *url.URL, log logr.Logger) (*storage.Endpoint, error) {
	if u.Host != "" || u.Path == "" || strings.HasSuffix(u.Path, "/") {
		return nil, errors.New("a file is named by its absolute path, with three slashes after the colon")
	}
	if u.RawQuery != "" {
		return nil, errors.New("SQLite has no parameters here")
	}
	if strings.ContainsAny(u.Path, "?%#") {
		return nil, errors.New("the path of the file has one of the characters ?, % and #, which SQLite does not take")
	}
	if err := prepare(u.Path); err != nil {
		return nil, err
	}
	return kine.Start("SQLite "+u.Path, log, Backend(u.Path, 0), kine.Options{}), nil
}

// prepare makes the file where it is missing, and looks whether it is one of SQLite.
func prepare(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	begin := make([]byte, len(header))
	n, err := io.ReadFull(f, begin)
	if n == 0 && errors.Is(err, io.EOF) {
		return nil
	}
	if string(begin[:n]) != header {
		return fmt.Errorf("%s is no file of SQLite; name another, or move it away", path)
	}
	return nil
}

// Backend opens a file. keptRevisions is how many of the newest revisions are never compacted; 0 means the usual.
func Backend(path string, keptRevisions int64) kine.Open {
	var history sqlbackend.History
	return func(ctx context.Context, running *sync.WaitGroup) (server.Backend, error) {
		_, dialect, err := kinesqlite.NewVariant(ctx, running, "sqlite3", &drivers.Config{
			DataSourceName:       path + "?" + parameters,
			ConnectionPoolConfig: generic.ConnectionPoolConfig{MaxOpen: connections, MaxIdle: connections},
		})
		if err != nil {
			return nil, err
		}
		return sqlbackend.Start(ctx, running, sqlbackend.Database{
			Dialect: dialect, Writers: 1, Full: full, Refused: refused,
			KeptRevisions: keptRevisions, History: &history,
		})
	}
}
