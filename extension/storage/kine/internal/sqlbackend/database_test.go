package sqlbackend

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/k3s-io/kine/pkg/drivers"
	"github.com/k3s-io/kine/pkg/drivers/generic"
	"github.com/k3s-io/kine/pkg/logstructured/sqllog"
)

// database is one whose answers are given by a function. A query fails with err, and its rows end with end.
type database func(ctx context.Context, query string) (answer [][]driver.Value, end, err error)

func (d database) Connect(context.Context) (driver.Conn, error) { return &conn{d}, nil }
func (d database) Driver() driver.Driver                        { return nil }

type conn struct{ d database }

func (c *conn) Prepare(query string) (driver.Stmt, error) { return &stmt{c, query}, nil }
func (c *conn) Close() error                              { return nil }
func (c *conn) Begin() (driver.Tx, error)                 { return nil, errors.ErrUnsupported }

func (c *conn) QueryContext(ctx context.Context, query string, _ []driver.NamedValue) (driver.Rows, error) {
	answer, end, err := c.d(ctx, query)
	if err != nil {
		return nil, err
	}
	return &rows{left: answer, end: end}, nil
}

type stmt struct {
	c     *conn
	query string
}

func (s *stmt) Close() error                               { return nil }
func (s *stmt) NumInput() int                              { return -1 }
func (s *stmt) Exec([]driver.Value) (driver.Result, error) { return nil, errors.ErrUnsupported }
func (s *stmt) Query([]driver.Value) (driver.Rows, error)  { return nil, errors.ErrUnsupported }
func (s *stmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	return s.c.QueryContext(ctx, s.query, args)
}

type rows struct {
	left [][]driver.Value
	end  error
}

func (r *rows) Columns() []string {
	if len(r.left) == 0 {
		return nil
	}
	return make([]string, len(r.left[0]))
}

func (r *rows) Close() error { return nil }

func (r *rows) Next(into []driver.Value) error {
	if len(r.left) == 0 {
		if r.end != nil {
			return r.end
		}
		return io.EOF
	}
	copy(into, r.left[0])
	r.left = r.left[1:]
	return nil
}

// stored is a row that kine reads: a creation. The past has the value before, too, a list has not.
func stored(current, compacted, revision int64, past bool) []driver.Value {
	row := []driver.Value{current, compacted, revision, fmt.Sprintf("/k/%d", revision), int64(1), int64(0), int64(0), int64(0), int64(0), []byte("v")}
	if past {
		row = append(row, []byte(nil))
	}
	return row
}

// kineOver is kine's dialect and log over a database, until ctx ends.
func kineOver(ctx context.Context, t *testing.T, running *sync.WaitGroup, d database) (*dialect, *log) {
	t.Helper()
	made, err := generic.OpenDB(ctx, running, "test", d, generic.ConnectionPoolConfig{}, "?", false, nil)
	if err != nil {
		t.Fatal(err)
	}
	made.ErrCode = func(error) string { return "" }
	own := &dialect{Generic: made, history: &History{}, lost: func(error) {}}
	return own, &log{sqllog.New(own, running, &drivers.Config{PollInterval: time.Second, PollBatchSize: 10, CompactBatchSize: 1000})}
}
