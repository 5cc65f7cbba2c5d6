package sqlbackend

import (
	"context"
	"database/sql/driver"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/k3s-io/kine/pkg/server"
)

// withLog runs a test with kine's log over a database.
func withLog(t *testing.T, d database, test func(*dialect, *log)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	dialect, log := kineOver(ctx, t, &running, d)
	test(dialect, log)
}

// kine takes what it had when the connection broke for all there is.
func TestAReadThatEndsEarlyIsAnError(t *testing.T) {
	var broken error
	withLog(t, func(_ context.Context, query string) ([][]driver.Value, error, error) {
		past := strings.Contains(query, "old_value")
		return [][]driver.Value{stored(7, 2, 5, past), stored(7, 2, 6, past), stored(7, 2, 7, past)}, broken, nil
	}, func(_ *dialect, l *log) {
		reads := map[string]func() (server.EventBatch, error){
			"a list":             func() (server.EventBatch, error) { return l.List(t.Context(), "/k/", "/k0", 0, 0, false, false) },
			"a list of the past": func() (server.EventBatch, error) { return l.List(t.Context(), "/k/", "/k0", 0, 6, false, false) },
			"the past":           func() (server.EventBatch, error) { return l.After(t.Context(), "", "", 4, 0) },
		}
		for name, read := range reads {
			broken = nil
			if batch, err := read(); err != nil || len(batch.Events) != 3 || batch.CurrentRev != 7 {
				t.Errorf("%s that is whole: %d events at %d, %v", name, len(batch.Events), batch.CurrentRev, err)
			}
			broken = errBroken
			if batch, err := read(); !errors.Is(err, errBroken) || batch.Events != nil || batch.CurrentRev != 0 {
				t.Errorf("%s that broke: %d events at %d, %v", name, len(batch.Events), batch.CurrentRev, err)
			}
		}
	})
}

// kine sends what a compaction left of the past, and does not say that it was compacted where the
// database breaks just then.
func TestACompactedPastIsNeverSent(t *testing.T) {
	var compactedErr error
	withLog(t, func(_ context.Context, query string) ([][]driver.Value, error, error) {
		if strings.HasPrefix(query, "SELECT MAX(prev_revision)") {
			return [][]driver.Value{{int64(6)}}, nil, compactedErr
		}
		return [][]driver.Value{stored(7, 6, 7, true)}, nil, nil
	}, func(_ *dialect, l *log) {
		batch, err := l.After(t.Context(), "", "", 4, 0)
		if !errors.Is(err, server.ErrCompacted) || batch.Events != nil {
			t.Errorf("%d events, %v", len(batch.Events), err)
		}
		if revision, err := l.CompactRevision(t.Context()); revision != 6 || err != nil {
			t.Errorf("compacted up to %d, %v", revision, err)
		}
		compactedErr = errBroken
		if revision, _ := l.CompactRevision(t.Context()); revision == 0 {
			t.Error("where the database breaks, nothing was compacted")
		}
	})
}

// kine's poll has the context of the process, and would wait for a silent connection as long.
func TestASilentConnectionDoesNotEndEvents(t *testing.T) {
	for what, part := range map[string]string{
		"the beginning": "SELECT MAX(id)",
		"a poll":        "old_value",
		"a gap":         "INSERT",
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				first := true
				var mu sync.Mutex
				withLog(t, func(ctx context.Context, query string) ([][]driver.Value, error, error) {
					mu.Lock()
					silent := first && strings.Contains(query, part) && !strings.Contains(query, "name = ?")
					first = first && !silent
					mu.Unlock()
					switch {
					case strings.Contains(query, "name = ?"): // the row of compactions, as it begins
						return [][]driver.Value{stored(7, 2, 1, true)}, nil, nil
					case silent:
						<-ctx.Done()
						return nil, nil, ctx.Err()
					case strings.Contains(query, "WHERE id IN"):
						return [][]driver.Value{{int64(7), "/k/7", int64(1), int64(0)}}, nil, nil
					case strings.HasPrefix(query, "SELECT MAX(id)"):
						return [][]driver.Value{{int64(7)}}, nil, nil
					case strings.Contains(query, "old_value"):
						next := int64(8)
						if part == "INSERT" {
							next = 9 // after a gap, which is closed by a row
						}
						return [][]driver.Value{stored(next, 2, next, true)}, nil, nil
					}
					return [][]driver.Value{{int64(2)}}, nil, nil
				}, func(_ *dialect, l *log) {
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					defer cancel()
					if err := l.Start(context.WithValue(ctx, patient{}, true)); err != nil {
						t.Fatal(err)
					}
					select {
					case batch := <-l.Watch(ctx):
						if len(batch.Events) != 1 {
							t.Errorf("events %v", batch.Events)
						}
					case <-ctx.Done():
						t.Error("no event within a minute")
					}
				})
			})
		})
	}
}

// Other watches of a connection wait until the past of one was read.
func TestThePastIsGivenInTimeOrNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		withLog(t, func(ctx context.Context, _ string) ([][]driver.Value, error, error) {
			<-ctx.Done()
			return nil, nil, ctx.Err()
		}, func(_ *dialect, l *log) {
			began := time.Now()
			if _, err := l.After(t.Context(), "", "", 4, 0); err == nil || time.Since(began) != pastTimeout {
				t.Errorf("after %v: %v", time.Since(began), err)
			}
		})
	})
}

// Requests that keep all connections busy are no sign that the database is away.
func TestTheProbeHasAConnectionOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		withLog(t, func(ctx context.Context, query string) ([][]driver.Value, error, error) {
			if query == "busy" {
				<-ctx.Done()
				return nil, nil, ctx.Err()
			}
			return [][]driver.Value{{int64(7)}}, nil, nil
		}, func(d *dialect, _ *log) {
			d.DB.SetMaxOpenConns(3)
			b := &backend{dialect: d, probe: make(chan struct{}, 1)}
			if err := b.Check(t.Context()); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			var requests sync.WaitGroup
			defer requests.Wait()
			defer cancel()
			for range 5 {
				requests.Go(func() { _, _ = d.DB.QueryContext(ctx, "busy") }) // it is ended
			}
			synctest.Wait()
			if stats := d.DB.Stats(); stats.WaitCount == 0 {
				t.Fatalf("connections are left: %+v", stats)
			}
			probe, stop := context.WithTimeout(t.Context(), time.Second)
			defer stop()
			if err := b.Check(probe); err != nil {
				t.Errorf("while all others are busy: %v", err)
			}
			if err := b.endProbe(); err != nil {
				t.Error(err)
			}
		})
	})
}

// Whoever asks for health learns that watches are sent nothing, though all else goes well.
func TestSilentWatchesAreAFaultOfTheCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		withLog(t, func(context.Context, string) ([][]driver.Value, error, error) {
			return [][]driver.Value{{int64(7)}}, nil, nil
		}, func(d *dialect, _ *log) {
			b := &backend{dialect: d, probe: make(chan struct{}, 1)}
			d.history.reached(5)
			if err := b.Check(t.Context()); err != nil {
				t.Errorf("behind, but not for long: %v", err)
			}
			time.Sleep(maxSilence + time.Second)
			if err := b.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "revision 5") {
				t.Errorf("behind for long: %v", err)
			}
			d.history.reached(7)
			if err := b.Check(t.Context()); err != nil {
				t.Errorf("no longer behind: %v", err)
			}
			if err := b.endProbe(); err != nil {
				t.Error(err)
			}
		})
	})
}
