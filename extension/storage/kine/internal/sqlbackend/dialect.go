package sqlbackend

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/k3s-io/kine/pkg/drivers/generic"
	"github.com/k3s-io/kine/pkg/query"
	"github.com/k3s-io/kine/pkg/server"
	"k8s.io/klog/v2"
)

type (
	// patient marks the context that kine begins its poll with.
	patient struct{}
	// outcomeOf is the key of a write's outcome in its context.
	outcomeOf struct{}
)

// outcome is what the database said of the last insert of a write, a conflict excepted.
type outcome struct{ err error }

func (o *outcome) note(err error) {
	if o != nil && !errors.Is(err, server.ErrKeyExists) {
		o.err = err
	}
}

// dialect is kine's, with transactions of our own.
type dialect struct {
	*generic.Generic
	order string
}

// BeginTx begins a write, or a compaction.
func (d *dialect) BeginTx(ctx context.Context, opts *sql.TxOptions) (server.Transaction, error) {
	said, _ := ctx.Value(outcomeOf{}).(*outcome)
	x, err := d.DB.BeginTx(ctx, opts)
	if err == nil && d.order != "" && opts.Isolation == sql.LevelReadCommitted {
		if _, err = x.ExecContext(ctx, d.order); err != nil {
			err = errors.Join(err, x.Rollback())
		}
	}
	said.note(err)
	if err != nil {
		return nil, err
	}
	return &transaction{Tx: x, d: d, said: said}, nil
}

// CurrentRevision, where kine begins its poll with it, is tried until there is an answer: kine would
// leave the watch open without ever sending an event.
func (d *dialect) CurrentRevision(ctx context.Context) (int64, error) {
	for {
		revision, err := d.Generic.CurrentRevision(ctx)
		if err == nil || ctx.Value(patient{}) == nil || !pause(ctx) {
			return revision, err
		}
	}
}

// PrepareAfter prepares the statement of the poll. Where that fails it gives its connection back, and
// waits a little: kine tries again at once.
func (d *dialect) PrepareAfter(ctx context.Context, limit int64) (*query.Stmt, error) {
	named := d.AfterAllOldValSQL.Appendf("LIMIT %d", limit)
	conn, err := d.DB.Conn(ctx)
	if err != nil {
		pause(ctx)
		return nil, err
	}
	stmt, err := conn.PrepareContext(ctx, named.Query)
	if err != nil {
		err = errors.Join(err, conn.Close())
		pause(ctx)
		return nil, err
	}
	return &query.Stmt{Named: named, Conn: conn, Stmt: stmt}, nil
}

// pause says whether ctx goes on after it.
func pause(ctx context.Context) bool {
	select {
	case <-time.After(readyPause):
		return true
	case <-ctx.Done():
		return false
	}
}

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
	return t.revision(ctx, t.d.CurrentRevSQL)
}

func (t *transaction) GetCompactRevision(ctx context.Context) (int64, error) {
	return t.revision(ctx, t.d.CompactRevSQL)
}

func (t *transaction) revision(ctx context.Context, named *query.Named) (int64, error) {
	var revision sql.NullInt64
	err := t.QueryRowContext(ctx, named.Query).Scan(&revision)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return revision.Int64, err
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

// number is how the columns created and deleted hold a truth.
func number(b bool) int {
	if b {
		return 1
	}
	return 0
}
