// Package postgres runs a PostgreSQL server inside a Go test.
package postgres

import (
	"testing"

	"github.com/annex-api/annex/extension/internal/postgrestest"
)

// Start runs a server of the distribution's packages until the test ends, with data of its own
// and listening at a Unix socket alone. It gives the URL of an empty database, which is a
// storage. The test is skipped where PostgreSQL is not installed. Settings are PostgreSQL's own,
// name=value.
func Start(t testing.TB, settings ...string) (url string) {
	t.Helper()
	return postgrestest.Start(t, settings...).Database()
}
