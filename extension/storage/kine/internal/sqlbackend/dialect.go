package sqlbackend

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/k3s-io/kine/pkg/drivers/generic"
	"github.com/k3s-io/kine/pkg/query"
	"github.com/k3s-io/kine/pkg/server"
)

// pollTimeout bounds each thing that the poll waits for. Its own context is that of the process, and a
// connection that is alive and silent would end all events without a word.
const pollTimeout = 5 * time.Second

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

// dialect is kine's, with transactions and a poll of our own.
type dialect struct {
	*generic.Generic
	order   string
	history *History
	// lost is told when the poll cannot go on from where it was.
	lost func(error)
	// endPoll ends the context of the last query of the poll. The poll is one goroutine.
	endPoll context.CancelFunc
}

// BeginTx begins a write, or a compaction.
func (d *dialect) BeginTx(ctx context.Context, opts *sql.TxOptions) (server.Transaction, error) {
	said, _ := ctx.Value(outcomeOf{}).(*outcome)
	order := ""
	if opts.Isolation == sql.LevelReadCommitted {
		order = d.order
	}
	x, err := d.begin(ctx, opts, order)
	said.note(err)
	if err != nil {
		return nil, err
	}
	return &transaction{Tx: x, d: d, said: said}, nil
}

func (d *dialect) begin(ctx context.Context, opts *sql.TxOptions, order string) (*sql.Tx, error) {
	x, err := d.DB.BeginTx(ctx, opts)
	if err != nil || order == "" {
		return x, err
	}
	if _, err := x.ExecContext(ctx, order); err != nil {
		return nil, errors.Join(err, x.Rollback())
	}
	return x, nil
}

func (d *dialect) ListCurrent(ctx context.Context, key, end string, limit int64, includeDeleted, keysOnly bool) (*sql.Rows, error) {
	rows, err := d.Generic.ListCurrent(ctx, key, end, limit, includeDeleted, keysOnly)
	return noted(ctx, rows, err)
}

func (d *dialect) List(ctx context.Context, key, end string, limit, revision int64, includeDeleted, keysOnly bool) (*sql.Rows, error) {
	rows, err := d.Generic.List(ctx, key, end, limit, revision, includeDeleted, keysOnly)
	return noted(ctx, rows, err)
}

func (d *dialect) After(ctx context.Context, key, end string, revision, limit int64) (*sql.Rows, error) {
	rows, err := d.Generic.After(ctx, key, end, revision, limit)
	return noted(ctx, rows, err)
}

// CurrentRevision, where kine begins its poll with it, is tried until there is an answer: kine would
// leave the watch open without ever sending an event.
func (d *dialect) CurrentRevision(ctx context.Context) (int64, error) {
	if ctx.Value(patient{}) == nil {
		return revisionOf(ctx, d.DB, d.CurrentRevSQL)
	}
	for {
		revision, err := d.revisionSoon(ctx, d.CurrentRevSQL)
		if err == nil {
			d.history.reached(revision)
			return revision, nil
		}
		if !pause(ctx) {
			return 0, err
		}
	}
}

// GetCompactRevision is asked with the context of the process too.
func (d *dialect) GetCompactRevision(ctx context.Context) (int64, error) {
	return d.revisionSoon(ctx, d.CompactRevSQL)
}

func (d *dialect) revisionSoon(ctx context.Context, named *query.Named) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	return revisionOf(ctx, d.DB, named)
}

// PrepareAfter prepares the statement of the poll, on a connection of its own. Where that fails it waits a
// little: kine tries again at once.
func (d *dialect) PrepareAfter(ctx context.Context, limit int64) (*query.Stmt, error) {
	bounded, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	stmt, err := d.prepareAfter(bounded, limit)
	if err != nil {
		pause(ctx)
	}
	return stmt, err
}

func (d *dialect) prepareAfter(ctx context.Context, limit int64) (*query.Stmt, error) {
	conn, err := d.DB.Conn(ctx)
	if err != nil {
		return nil, err
	}
	// A new connection may be to another database than the last one was: to a standby that had not got
	// all, or to one that was restored.
	if err := d.history.verify(ctx, conn, d.CompactRevSQL); err != nil {
		if errors.Is(err, errLost) {
			d.lost(err)
		}
		return nil, errors.Join(err, conn.Close())
	}
	named := d.AfterAllOldValSQL.Appendf("LIMIT %d", limit)
	stmt, err := conn.PrepareContext(ctx, named.Query)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return &query.Stmt{Named: named, Conn: conn, Stmt: stmt}, nil
}

// QueryAfter is one poll. Everything up to the revision was sent to watches. The rows must be read soon, too.
func (d *dialect) QueryAfter(ctx context.Context, stmt *query.Stmt, revision int64) (*sql.Rows, error) {
	d.history.reached(revision)
	if d.endPoll != nil {
		d.endPoll() // its rows were read
	}
	var bounded context.Context
	bounded, d.endPoll = context.WithTimeout(ctx, pollTimeout)
	rows, err := d.Generic.QueryAfter(bounded, stmt, revision)
	if err != nil {
		d.endPoll()
		pause(ctx)
	}
	return rows, err
}

// Fill closes a gap in the revisions.
func (d *dialect) Fill(ctx context.Context, revision int64) error {
	ctx, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	return d.Generic.Fill(ctx, revision)
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
