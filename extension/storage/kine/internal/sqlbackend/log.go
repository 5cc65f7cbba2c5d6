package sqlbackend

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/k3s-io/kine/pkg/logstructured/sqllog"
	"github.com/k3s-io/kine/pkg/server"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// pastTimeout bounds the read of the events that a watch begins with. Other watches of the same connection
// wait for it.
const pastTimeout = 30 * time.Second

// log is kine's log of a database. It looks whether rows came to their end, as kine's List and After do not,
// and does not take what it has for all.
type log struct{ *sqllog.SQLLog }

func (l *log) List(ctx context.Context, key, end string, limit, revision int64, includeDeleted, keysOnly bool) (server.EventBatch, error) {
	ctx, rows := noting(ctx)
	batch, err := l.SQLLog.List(ctx, key, end, limit, revision, includeDeleted, keysOnly)
	if broken := rows.broken(); broken != nil {
		return server.EventBatch{}, broken
	}
	return batch, err
}

func (l *log) After(ctx context.Context, key, end string, revision, limit int64) (server.EventBatch, error) {
	bounded, cancel := context.WithTimeout(ctx, pastTimeout)
	defer cancel()
	bounded, rows := noting(bounded)
	batch, err := l.SQLLog.After(bounded, key, end, revision, limit)
	if broken := rows.broken(); broken != nil {
		err = broken
	}
	if err != nil && bounded.Err() != nil && ctx.Err() == nil {
		err = status.Error(codes.Unavailable, fmt.Sprintf("the database did not give the past events within %v", pastTimeout))
	}
	if err != nil {
		// kine passes the events on whatever the error, and their revision as one that the watch has come to.
		return server.EventBatch{}, err
	}
	return batch, nil
}

// CompactRevision is asked where the past of a watch was compacted, and its error is not looked at: 0 would
// say that the past is whole.
func (l *log) CompactRevision(ctx context.Context) (int64, error) {
	revision, err := l.SQLLog.CompactRevision(ctx)
	return max(revision, 1), err
}

// notedRows is the key of the rows of a read in its context.
type notedRows struct{}

// read is what a read of kine's asked the database.
type read struct{ rows *sql.Rows }

// noting gives a context in which the dialect notes the rows of a read.
func noting(ctx context.Context) (context.Context, *read) {
	r := &read{}
	return context.WithValue(ctx, notedRows{}, r), r
}

// noted passes the rows on, after noting them where that is wanted.
func noted(ctx context.Context, rows *sql.Rows, err error) (*sql.Rows, error) {
	if r, ok := ctx.Value(notedRows{}).(*read); ok {
		r.rows = rows
	}
	return rows, err
}

// broken says why the rows ended before their end; nil if they did not.
func (r *read) broken() error {
	if r.rows == nil {
		return nil
	}
	return errors.Join(r.rows.Err(), r.rows.Close())
}
