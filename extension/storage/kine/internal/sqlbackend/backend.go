// Package sqlbackend makes kine's backend of a SQL database keep what etcd promises.
//
// kine takes a list that the database ended early for a whole one, an insert that failed for a conflict or
// even for a success, and what its own poll saw last for the newest revision. Here those are errors, or the
// truth.
package sqlbackend

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/k3s-io/kine/pkg/drivers"
	"github.com/k3s-io/kine/pkg/drivers/generic"
	"github.com/k3s-io/kine/pkg/logstructured"
	"github.com/k3s-io/kine/pkg/logstructured/sqllog"
	"github.com/k3s-io/kine/pkg/server"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/klog/v2"
)

const (
	// pollInterval is how late a write of another process may be seen by who only watches.
	pollInterval = time.Second
	pollBatch    = 500
	// The API server says when to compact; kine does it in pieces, and keeps the newest revisions.
	compactBatch   = 1000
	compactTimeout = 5 * time.Second
	keptRevisions  = 1000
	// readyPause is between two attempts to begin the poll, and after one that failed.
	readyPause = 250 * time.Millisecond
	// resumeTimeout bounds what is done before a database that was opened before is used again.
	resumeTimeout = 30 * time.Second
)

// Database is one opened SQL database.
type Database struct {
	Dialect *generic.Generic
	// Order is run first in the transaction of every write; it makes writes become visible in the
	// order of their revisions. Nil where the database does so by itself.
	Order string
	// Writers is how many writes there are at a time; the others wait for their turn.
	Writers int
	// Full says whether an error means that there is no space left, Refused whether the database
	// understood the statement and refused it. All other errors mean that it is away.
	Full, Refused func(error) bool
	// Raise, if set, makes the next revision greater than its argument, where that does not come of itself from
	// a row that has it.
	Raise string
	// KeptRevisions is how many of the newest revisions are never compacted; 0 means 1000, less than 0 none.
	KeptRevisions int64
	// History is what was known of the database before. Every opening is given the same one.
	History *History
}

// Start is the database as a backend that runs until ctx ends. What it starts is counted in running.
func Start(ctx context.Context, running *sync.WaitGroup, db Database) (server.Backend, error) {
	kept := int64(keptRevisions)
	if db.KeptRevisions != 0 {
		kept = max(db.KeptRevisions, 0)
	}
	lost := make(chan error, 1)
	d := &dialect{Generic: db.Dialect, order: db.Order, history: db.History, lost: func(err error) {
		select {
		case lost <- err:
		default: // it was said before
		}
	}}
	if err := resume(ctx, d, db.Raise); err != nil {
		return nil, err
	}
	events := &log{sqllog.New(d, running, &drivers.Config{
		CompactBatchSize: compactBatch,
		CompactTimeout:   compactTimeout,
		CompactMinRetain: kept,
		PollInterval:     pollInterval,
		PollBatchSize:    pollBatch,
	})}
	inner := logstructured.New(events)
	b := &backend{
		Backend: inner, dialect: d, db: db, lost: lost,
		turn: make(chan struct{}, db.Writers), probe: make(chan struct{}, 1),
	}
	if _, err := b.probed(ctx); err != nil {
		return nil, err
	}
	running.Go(func() {
		<-ctx.Done()
		b.probe <- struct{}{} // for good
		if err := b.endProbe(); err != nil {
			klog.V(2).InfoS("The connection of the probe did not close", "err", err)
		}
	})
	patiently := context.WithValue(ctx, patient{}, true)
	if err := inner.Start(patiently); err != nil {
		return nil, err
	}
	running.Go(func() { b.follow(ctx, events) })
	return b, nil
}

// resume looks whether the database has what this process has seen of it, and makes it go on behind that
// where it has not.
func resume(ctx context.Context, d *dialect, raise string) error {
	ctx, cancel := context.WithTimeout(ctx, resumeTimeout)
	defer cancel()
	err := d.history.verify(ctx, d.DB, d.CompactRevSQL)
	if errors.Is(err, errLost) {
		err = d.history.goOn(ctx, d, raise)
	}
	if err == nil {
		d.history.forget()
	}
	return err
}

type backend struct {
	server.Backend
	dialect *dialect
	db      Database
	turn    chan struct{}
	lost    chan error

	// probe is held by who checks, and guards the two below it.
	probe     chan struct{}
	probeConn *sql.Conn
	silence   silence
}

func (b *backend) Create(ctx context.Context, key string, value []byte, lease int64) (revision int64, err error) {
	err = b.write(ctx, func(ctx context.Context) error {
		revision, err = b.Backend.Create(ctx, key, value, lease)
		return err
	})
	if errors.Is(err, server.ErrKeyExists) {
		// Who is refused reads the key at this revision next.
		current, currentErr := b.CurrentRevision(ctx)
		if currentErr != nil {
			return 0, currentErr
		}
		return current, server.ErrKeyExists
	}
	return revision, err
}

func (b *backend) Update(ctx context.Context, key string, value []byte, at, lease int64) (revision int64, kv *server.KeyValue, done bool, err error) {
	err = b.write(ctx, func(ctx context.Context) error {
		revision, kv, done, err = b.Backend.Update(ctx, key, value, at, lease)
		return err
	})
	return revision, kv, done && err == nil, err
}

func (b *backend) Delete(ctx context.Context, key string, at int64) (revision int64, kv *server.KeyValue, done bool, err error) {
	err = b.write(ctx, func(ctx context.Context) error {
		revision, kv, done, err = b.Backend.Delete(ctx, key, at)
		return err
	})
	return revision, kv, done && err == nil, err
}

// write runs one write when it is its turn. What the database said of the write counts, not what kine
// made of it.
func (b *backend) write(ctx context.Context, do func(context.Context) error) error {
	select {
	case b.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-b.turn }()
	var said outcome
	err := do(context.WithValue(ctx, outcomeOf{}, &said))
	if said.err != nil {
		err = said.err
	}
	return b.explain(err)
}

func (b *backend) List(ctx context.Context, key, end string, limit, at int64, keysOnly bool) (int64, []*server.KeyValue, error) {
	revision, kvs, err := b.Backend.List(ctx, key, end, limit, at, keysOnly)
	if err != nil {
		return 0, nil, b.explain(err)
	}
	return revision, kvs, nil
}

func (b *backend) Get(ctx context.Context, key string, at int64, keysOnly bool) (int64, *server.KeyValue, error) {
	revision, kv, err := b.Backend.Get(ctx, key, at, keysOnly)
	return revision, kv, b.explain(err)
}

func (b *backend) Count(ctx context.Context, key, end string, at int64) (int64, int64, error) {
	revision, count, err := b.Backend.Count(ctx, key, end, at)
	return revision, count, b.explain(err)
}

// CurrentRevision asks the database. kine would say what its poll saw last, which may be older than a
// write that was acknowledged, by this process or by another.
func (b *backend) CurrentRevision(ctx context.Context) (int64, error) {
	revision, err := b.dialect.CurrentRevision(ctx)
	return revision, b.explain(err)
}

func (b *backend) Compact(ctx context.Context, revision int64) (int64, error) {
	current, err := b.Backend.Compact(ctx, revision)
	return current, b.explain(err)
}

func (b *backend) DbSize(ctx context.Context) (int64, error) {
	size, err := b.Backend.DbSize(ctx)
	return size, b.explain(err)
}

func (b *backend) Watch(ctx context.Context, revision int64) server.WatchResult {
	result := b.Backend.Watch(ctx, revision)
	select {
	case err := <-result.Errorc:
		errs := make(chan error, 1)
		errs <- b.explain(err)
		result.Errorc = errs
	default:
	}
	return result
}

// explain turns errors of the database into those of etcd.
func (b *backend) explain(err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if _, isStatus := status.FromError(err); isStatus {
		return err
	}
	switch {
	case b.db.Full(err):
		return rpctypes.ErrGRPCNoSpace
	case b.db.Refused(err):
		return fmt.Errorf("the database refused a statement: %w", err)
	default:
		return status.Error(codes.Unavailable, err.Error())
	}
}
