package postgres

import (
	"context"
	"database/sql"
	"errors"
)

// lock is held from before a write has its revision until it is visible. So revisions become visible in
// their order: a list or watch that has seen one has seen all before it. Its number is this program's.
const lock = `SELECT pg_advisory_xact_lock(8315162668317049)`

// raise makes the sequence of revisions go on behind a revision.
const raise = `SELECT setval(pg_get_serial_sequence('kine', 'id'), GREATEST($1, nextval(pg_get_serial_sequence('kine', 'id'))))`

// table is the one that kine knows, with the same columns, so that its data may be used.
var table = []string{
	`CREATE TABLE IF NOT EXISTS kine (
		id BIGSERIAL PRIMARY KEY,
		name TEXT COLLATE "C",
		created INTEGER,
		deleted INTEGER,
		create_revision BIGINT,
		prev_revision BIGINT,
		lease INTEGER,
		value BYTEA,
		old_value BYTEA
	)`,
	`CREATE INDEX IF NOT EXISTS kine_name_id_index ON kine (name, id)`,
	`CREATE UNIQUE INDEX IF NOT EXISTS kine_name_prev_revision_uindex ON kine (name, prev_revision)`,
}

// makeTable makes what is missing. Servers that start at the same time wait for each other.
func makeTable(ctx context.Context, db *sql.DB) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	for _, statement := range append([]string{lock}, table...) {
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return errors.Join(err, tx.Rollback())
		}
	}
	return tx.Commit()
}
