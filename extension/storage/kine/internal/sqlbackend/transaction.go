package sqlbackend

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/k3s-io/kine/pkg/query"
	"k8s.io/klog/v2"
)

// transaction is a write or a compaction. kine's own does the insert on another connection than the
// transaction's, and ends the process where a commit fails.
type transaction struct {
	*sql.Tx
	d    *dialect
	said *outcome
}

func (t *transaction) Insert(ctx context.Context, key string, created, deleted bool, previous, ttl int64, value []byte) (int64, error) {
	var id int64
	err := t.QueryRowContext(ctx, t.d.InsertReturningSQL.Query,
		previous, key, number(created), number(deleted), previous, ttl, value, key, previous).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil // the key is at another revision
	}
	if err != nil {
		err = t.d.TranslateErr(err)
	}
	t.said.note(err)
	return id, err
}

func (t *transaction) Commit() error {
	err := t.Tx.Commit()
	t.said.note(err)
	return err
}

// MustCommit ends a compaction. One that fails has changed nothing, and comes again.
func (t *transaction) MustCommit() {
	if err := t.Tx.Commit(); err != nil {
		klog.ErrorS(err, "Compaction of storage failed; it will be tried again")
	}
}

// MustRollback comes after every compaction, also after one that is committed.
func (t *transaction) MustRollback() {
	if err := t.Rollback(); err != nil && !errors.Is(err, sql.ErrTxDone) {
		klog.ErrorS(err, "Compaction of storage was not rolled back by a statement; the database does so itself")
	}
}

func (t *transaction) CurrentRevision(ctx context.Context) (int64, error) {
	return revisionOf(ctx, t, t.d.CurrentRevSQL)
}

func (t *transaction) GetCompactRevision(ctx context.Context) (int64, error) {
	return revisionOf(ctx, t, t.d.CompactRevSQL)
}

func (t *transaction) SetCompactRevision(ctx context.Context, revision int64) error {
	_, err := t.ExecContext(ctx, t.d.UpdateCompactSQL.Query, revision)
	return err
}

func (t *transaction) Compact(ctx context.Context, from, to int64) (int64, error) {
	result, err := t.ExecContext(ctx, t.d.CompactSQL.Query, from, to, from, to)
	if err != nil {
		return 0, fmt.Errorf("compact: %w", err)
	}
	return result.RowsAffected()
}

func (t *transaction) DeleteRevision(ctx context.Context, revision int64) error {
	_, err := t.ExecContext(ctx, t.d.DeleteSQL.Query, revision)
	return err
}

// queryer is a connection or a transaction.
type queryer interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// revisionOf asks for one revision. It is 0 where the database has none.
func revisionOf(ctx context.Context, db queryer, named *query.Named) (int64, error) {
	var revision sql.NullInt64
	err := db.QueryRowContext(ctx, named.Query).Scan(&revision)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return revision.Int64, err
}

// number is how the columns created and deleted hold a truth.
func number(b bool) int {
	if b {
		return 1
	}
	return 0
}
