package postgres

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// A server that stands still inside a write, or that is gone without a word, holds the lock of all writes. So
// PostgreSQL ends a transaction that waits for its client this long, and who waits for the lock
// gives up before a request would: of a server with several writes, one after the other comes to hold it.
const (
	maxIdleInTransaction = "3s"
	maxLockWait          = "10s"

	// SQLSTATE of a transaction that was ended, and of a lock that was not got, by these limits.
	idleTooLong = "25P03"
	lockTooLong = "55P03"
)

// limits of each session. The last three find a client that has gone without a word, in seconds; they mean nothing for
// a Unix socket.
var limits = [...]struct{ name, value string }{
	{"idle_in_transaction_session_timeout", maxIdleInTransaction},
	{"lock_timeout", maxLockWait},
	{"tcp_keepalives_idle", "10"},
	{"tcp_keepalives_interval", "5"},
	{"tcp_keepalives_count", "3"},
}

// limitSession sets the limits of a new session, those excepted that the URL sets. They are statements and no parameters of the
// connection, as poolers refuse parameters that they do not know.
func limitSession(ctx context.Context, conn *pgx.Conn) error {
	var set strings.Builder
	for _, l := range limits {
		if _, given := conn.Config().RuntimeParams[l.name]; !given {
			fmt.Fprintf(&set, "SET %s = '%s';", l.name, l.value)
		}
	}
	if _, err := conn.PgConn().Exec(ctx, set.String()).ReadAll(); err != nil {
		return fmt.Errorf("set the limits of the session: %w", err)
	}
	return nil
}
