// Package postgres keeps objects in a PostgreSQL database, which several servers may share.
//
// A write of one server is seen by a consistent read of another at once, and by who only watches
// there within a second.
package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/k3s-io/kine/pkg/drivers/generic"
	"github.com/k3s-io/kine/pkg/query"
	"github.com/k3s-io/kine/pkg/server"

	"github.com/annex-api/annex/extension/storage"
	"github.com/annex-api/annex/extension/storage/kine"
	"github.com/annex-api/annex/extension/storage/kine/internal/sqlbackend"
)

const (
	connectTimeout = 5 * time.Second
	// connections of one server to the database, of which the poll and the probe keep one each.
	connections = 20
	// writers are those that wait for the lock of all writes, or hold it: one writes while the next
	// waits, and more would only wait longer. A server that stands still holds up the others once for each.
	writers = 2
	// idleTime is how long a connection that is not needed stays open.
	idleTime = 5 * time.Minute
)

// Driver opens postgres://user:password@host:port/database?parameters, as libpq knows them: sslmode,
// sslrootcert, host for a Unix socket, and so on. The database must exist, the user must be allowed to make a
// table in it. Several hosts may be named. A pooler between must give each connection a session of its own.
func Driver() storage.Driver {
	return storage.Driver{Scheme: "postgres", Example: "postgres://user:password@host:5432/widgets?sslmode=verify-full", Open: open}
}

func open(_ context.Context, u *url.URL, log logr.Logger) (*storage.Endpoint, error) {
	config, err := settings(u)
	if err != nil {
		return nil, err
	}
	return kine.Start(fmt.Sprintf("PostgreSQL %s at %s", config.Database, config.Host), log, Backend(*config, 0), kine.Options{}), nil
}

func settings(u *url.URL) (*pgx.ConnConfig, error) {
	if strings.Trim(u.Path, "/") == "" {
		return nil, errors.New("no database is named; its name comes after the host and a slash")
	}
	config, err := pgx.ParseConfig(u.String())
	if err != nil {
		return nil, err
	}
	if config.ConnectTimeout == 0 || config.ConnectTimeout > connectTimeout {
		config.ConnectTimeout = connectTimeout
	}
	// A host that has gone without a word is found by its silence.
	config.DialFunc = (&net.Dialer{Timeout: config.ConnectTimeout, KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3,
	}}).DialContext
	return config, nil
}

// Backend opens a database. keptRevisions is how many of the newest revisions are never compacted; 0 means the usual.
func Backend(config pgx.ConnConfig, keptRevisions int64) kine.Open {
	var history sqlbackend.History
	return func(ctx context.Context, running *sync.WaitGroup) (server.Backend, error) {
		connector := stdlib.GetConnector(config, stdlib.OptionAfterConnect(limitSession))
		if err := reachable(ctx, sql.OpenDB(connector)); err != nil {
			return nil, err
		}
		dialect, err := generic.OpenDB(ctx, running, "pgx", connector, generic.ConnectionPoolConfig{
			MaxOpen: connections, MaxIdle: connections, MaxIdleTime: idleTime,
		}, "$", true, nil)
		if err != nil {
			return nil, err
		}
		adapt(dialect)
		if err := makeTable(ctx, dialect.DB); err != nil {
			return nil, fmt.Errorf("make the table: %w", err)
		}
		return sqlbackend.Start(ctx, running, sqlbackend.Database{
			Dialect: dialect, Order: lock, Raise: raise, Writers: writers, Full: full, Refused: refused,
			KeptRevisions: keptRevisions, History: &history,
		})
	}
}

// reachable asks once: kine would ask for five minutes, and not say why it waits.
func reachable(ctx context.Context, db *sql.DB) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	return errors.Join(db.PingContext(ctx), db.Close())
}

// adapt says in PostgreSQL's words what SQLite would understand otherwise.
func adapt(d *generic.Generic) {
	statement := func(text, name string) *query.Named { return query.New(text, "$", true, name) }
	d.GetSizeSQL = statement(`SELECT pg_total_relation_size('kine')`, "GetSize")
	d.CompactSQL = statement(`
		DELETE FROM kine WHERE id IN (
			SELECT prev_revision FROM kine WHERE id > ? AND id <= ? AND prev_revision <> 0 AND name <> 'compact_rev_key'
			UNION ALL
			SELECT id FROM kine WHERE id > ? AND id <= ? AND deleted <> 0)`, "Compact")
	d.TranslateErr = func(err error) error {
		if code(err) == uniqueViolation {
			return server.ErrKeyExists
		}
		return err
	}
	d.ErrCode = code
	d.TranslateStartKeyFunc = func(key string) string {
		// A page goes on after its last key and a zero byte, which text cannot hold. The next byte does as
		// well: no key has it.
		if key, ok := strings.CutSuffix(key, "\x00"); ok {
			return key + "\x01"
		}
		return key
	}
}

const uniqueViolation = "23505"

// code is SQLSTATE, or nothing where the database did not answer.
func code(err error) string {
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		return ""
	}
	return e.Code
}

// full: the disk is full (53100), or a quota of the file system is used up.
func full(err error) bool { return code(err) == "53100" }

// refused: the database answered, and not because it is stopping, starting or short of resources (classes 57,
// 53), lost a connection (08), gave the write up for others' (40), has nothing but reading left as a standby
// (25006), or because the write had to be too quick for a server that stands still (25P03, 55P03).
func refused(err error) bool {
	c := code(err)
	switch c {
	case "", "25006", idleTooLong, lockTooLong:
		return false
	}
	switch c[:2] {
	case "08", "40", "53", "57":
		return false
	}
	return true
}
