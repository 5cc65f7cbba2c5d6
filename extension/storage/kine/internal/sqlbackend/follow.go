package sqlbackend

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// maxSilence is for how long watches may be behind the database without being sent anything.
const maxSilence = 15 * time.Second

// Watched is the revision that watches have come to. Others may have written since, and the poll has not seen it yet.
func (b *backend) Watched() int64 {
	at, _ := b.dialect.history.known()
	return at
}

// Lost gives the reason when watches cannot go on, and the database must be opened anew.
func (b *backend) Lost() <-chan error { return b.lost }

// follow notes what watches are sent, until ctx ends.
func (b *backend) follow(ctx context.Context, events *log) {
	for ctx.Err() == nil {
		batches := events.Watch(ctx)
		if batches == nil {
			return
		}
		for batch := range batches {
			b.dialect.history.sent(batch)
		}
	}
}

// Check asks the database for its revision, and looks whether watches come after it.
func (b *backend) Check(ctx context.Context) error {
	select {
	case b.probe <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-b.probe }()
	current, err := b.probed(ctx)
	if err != nil {
		return err
	}
	watched := b.Watched()
	if silence := b.silence.of(watched, current, time.Now()); silence > maxSilence {
		return fmt.Errorf("watches have come to revision %d and the database to %d, and nothing was sent for %v", watched, current, silence.Round(time.Second))
	}
	return nil
}

// probed asks on a connection that nothing else uses: requests that keep all others busy are no sign that the
// database is away. It is called by one at a time.
func (b *backend) probed(ctx context.Context) (int64, error) {
	if b.probeConn == nil {
		conn, err := b.dialect.DB.Conn(ctx)
		if err != nil {
			return 0, err
		}
		b.probeConn = conn
	}
	current, err := revisionOf(ctx, b.probeConn, b.dialect.CurrentRevSQL)
	if err != nil {
		return 0, errors.Join(err, b.endProbe())
	}
	return current, nil
}

// endProbe gives the probe's connection back. One that is broken is said so by the error before.
func (b *backend) endProbe() error {
	if b.probeConn == nil {
		return nil
	}
	err := b.probeConn.Close()
	b.probeConn = nil
	if errors.Is(err, sql.ErrConnDone) {
		return nil
	}
	return err
}

// silence is since when watches are behind and come no further.
type silence struct {
	watched int64
	since   time.Time
}

func (s *silence) of(watched, current int64, now time.Time) time.Duration {
	if watched >= current || watched != s.watched || s.since.IsZero() {
		s.watched, s.since = watched, now
	}
	return now.Sub(s.since)
}
