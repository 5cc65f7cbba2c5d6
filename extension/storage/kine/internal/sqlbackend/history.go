package sqlbackend

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/k3s-io/kine/pkg/query"
	"github.com/k3s-io/kine/pkg/server"
)

// errLost: watches cannot go on from what they were sent. They end, and the database is opened anew.
var errLost = errors.New("watches cannot go on")

// History is what a process knows of a database, over all of its openings: how far its watches have come. By
// that it finds out that a database has gone back in time, as one does that fails over to a
// standby which lacks the last writes, or that is restored while servers run.
type History struct {
	mu sync.Mutex
	// at is the revision that watches have come to; 0 before the first poll.
	at int64
	// newest is the newest event that was sent to them; nil where there was none.
	newest *row
}

// row is what tells an event from another one of the same revision.
type row struct {
	revision int64
	name     string
	created  bool
	// previous is the revision that was changed or deleted. A creation has none here: where the key was
	// deleted before, the database has the revision of that, and the event has not.
	previous int64
}

// reached notes that everything up to a revision was sent to watches.
func (h *History) reached(revision int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.at = max(h.at, revision)
}

// sent notes events that were sent to watches.
func (h *History) sent(batch server.EventBatch) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.at = max(h.at, batch.CurrentRev)
	if n := len(batch.Events); n > 0 {
		last := batch.Events[n-1]
		h.newest = &row{revision: last.KV.ModRevision, name: last.KV.Key, created: last.Create}
		if last.PrevKV != nil && !last.Create {
			h.newest.previous = last.PrevKV.ModRevision
		}
	}
}

func (h *History) known() (at int64, newest *row) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.at, h.newest
}

// forget begins anew.
func (h *History) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.at, h.newest = 0, nil
}

// verify asks whether the database still has what watches were sent. The error is errLost where it has not, or
// where it cannot give what came after.
func (h *History) verify(ctx context.Context, db queryer, compactRevision *query.Named) error {
	at, newest := h.known()
	if at == 0 {
		return nil
	}
	compacted, err := revisionOf(ctx, db, compactRevision)
	if err != nil {
		return err
	}
	found, err := find(ctx, db, at, newest)
	if err != nil {
		return err
	}
	return compare(at, newest, compacted, found)
}

// find reads the rows that watches came to, as far as they are there.
func find(ctx context.Context, db queryer, at int64, newest *row) (map[int64]row, error) {
	revisions := []string{fmt.Sprint(at)}
	if newest != nil {
		revisions = append(revisions, fmt.Sprint(newest.revision))
	}
	rows, err := db.QueryContext(ctx, `SELECT id, name, created, prev_revision FROM kine WHERE id IN (`+strings.Join(revisions, ", ")+`)`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	found := map[int64]row{}
	for rows.Next() {
		var r row
		var created sql.NullBool
		var previous sql.NullInt64
		if err := rows.Scan(&r.revision, &r.name, &created, &previous); err != nil {
			return nil, err
		}
		r.created = created.Bool
		if !r.created {
			r.previous = previous.Int64
		}
		found[r.revision] = r
	}
	return found, rows.Err()
}

// compare says whether watches that have come so far can go on in a database with these rows.
func compare(at int64, newest *row, compacted int64, found map[int64]row) error {
	if compacted > at {
		return fmt.Errorf("%w: they have come to revision %d, and the database was compacted up to %d since", errLost, at, compacted)
	}
	// A row that was compacted may be gone.
	if _, there := found[at]; !there && at > compacted {
		return fmt.Errorf("%w: the database has no revision %d, which they have seen; it has gone back in time", errLost, at)
	}
	if newest != nil && newest.revision > compacted && found[newest.revision] != *newest {
		return fmt.Errorf("%w: the database has another revision %d than they have seen; it has gone back in time", errLost, newest.revision)
	}
	return nil
}

// goOn makes a database that has lost revisions go on behind all of them: new writes get greater ones, and
// whoever comes with one of the lost is told that it was compacted, and lists again. Otherwise the
// revisions would be given twice, and nobody could tell which is meant.
func (h *History) goOn(ctx context.Context, d *dialect, raise string) (err error) {
	at, _ := h.known()
	x, err := d.begin(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted}, d.order)
	if err != nil {
		return err
	}
	t := &transaction{Tx: x, d: d}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.Rollback())
		}
	}()
	current, err := t.CurrentRevision(ctx)
	if err != nil {
		return err
	}
	compacted, err := t.GetCompactRevision(ctx)
	if err != nil {
		return err
	}
	past := at + 1 // who has come to at is told so as well
	newest := max(current, past)
	add := func(name string, created, deleted bool, previous int64) error {
		newest++
		_, err := t.ExecContext(ctx, d.FillSQL.Query, newest, name, number(created), number(deleted), 0, previous, 0, nil, nil)
		return err
	}
	if current <= past {
		// kine passes over rows whose name begins so.
		if err := add(fmt.Sprintf("gap-%d", newest+1), false, true, 0); err != nil {
			return err
		}
	}
	if compacted < past {
		result, err := t.ExecContext(ctx, d.UpdateCompactSQL.Query, past)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil {
			return err
		} else if n == 0 { // it has gone back to before there was anything
			if err := add("compact_rev_key", true, false, past); err != nil {
				return err
			}
		}
	}
	if newest > current && raise != "" {
		if _, err := t.ExecContext(ctx, raise, newest); err != nil {
			return err
		}
	}
	return t.Commit()
}
