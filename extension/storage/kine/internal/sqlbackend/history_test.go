package sqlbackend

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/k3s-io/kine/pkg/drivers"
	"github.com/k3s-io/kine/pkg/drivers/generic"
	kinesqlite "github.com/k3s-io/kine/pkg/drivers/sqlite"
	"github.com/k3s-io/kine/pkg/server"
)

func TestADatabaseThatHasGoneBackIsFoundOut(t *testing.T) {
	seen := row{revision: 9, name: "/k", previous: 4}
	same := map[int64]row{9: seen, 10: {revision: 10, name: "gap-10"}}
	for name, c := range map[string]struct {
		newest    *row
		compacted int64
		found     map[int64]row
		lost      bool
	}{
		"as it was":                              {&seen, 3, same, false},
		"as it was, and no event was sent":       {nil, 3, same, false},
		"without its end":                        {&seen, 3, map[int64]row{9: seen}, true},
		"without its end, and no event was sent": {nil, 3, nil, true},
		"with another event in its place":        {&seen, 3, map[int64]row{9: {revision: 9, name: "/other", previous: 4}, 10: same[10]}, true},
		"with another change in its place":       {&seen, 3, map[int64]row{9: {revision: 9, name: "/k", previous: 8}, 10: same[10]}, true},
		"with a creation in its place":           {&seen, 3, map[int64]row{9: {revision: 9, name: "/k", created: true}, 10: same[10]}, true},
		"compacted up to the event":              {&seen, 9, map[int64]row{10: same[10]}, false},
		"compacted up to where watches are":      {&seen, 10, nil, false},
		"compacted beyond":                       {&seen, 11, same, true},
	} {
		if err := compare(10, c.newest, c.compacted, c.found); errors.Is(err, errLost) != c.lost {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestHowFarWatchesHaveCome(t *testing.T) {
	var h History
	h.reached(5)
	h.sent(server.EventBatch{CurrentRev: 8, Events: []*server.Event{
		{KV: &server.KeyValue{Key: "/a", ModRevision: 7}},
		{KV: &server.KeyValue{Key: "/b", ModRevision: 8}, PrevKV: &server.KeyValue{ModRevision: 2}},
	}})
	h.reached(6) // a poll that began before
	if at, newest := h.known(); at != 8 || *newest != (row{revision: 8, name: "/b", previous: 2}) {
		t.Errorf("at %d, %v", at, newest)
	}
	h.forget()
	if at, newest := h.known(); at != 0 || newest != nil {
		t.Errorf("after all is forgotten: at %d, %v", at, newest)
	}
}

// A key that was deleted and made again has a revision before it in the database, and none in its event.
func TestWhateverWatchesSawLastIsThereAgain(t *testing.T) {
	for name, last := range map[string]func(ctx context.Context, b server.Backend) (int64, error){
		"a creation": func(ctx context.Context, b server.Backend) (int64, error) {
			return b.Create(ctx, "/k", []byte("v"), 0)
		},
		"an update": func(ctx context.Context, b server.Backend) (int64, error) {
			made, err := b.Create(ctx, "/k", []byte("v"), 0)
			if err != nil {
				return 0, err
			}
			revision, _, _, err := b.Update(ctx, "/k", []byte("w"), made, 0)
			return revision, err
		},
		"a deletion": deleted,
		"a creation after a deletion": func(ctx context.Context, b server.Backend) (int64, error) {
			if _, err := deleted(ctx, b); err != nil {
				return 0, err
			}
			return b.Create(ctx, "/k", []byte("w"), 0)
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			path := filepath.Join(t.TempDir(), "state.db")
			var history History
			before, end := opened(ctx, t, path, &history)
			// From here on watches are sent what is written.
			for i := 0; ; i++ {
				if _, err := before.Create(ctx, fmt.Sprintf("/first/%d", i), []byte("v"), 0); err != nil {
					t.Fatal(err)
				}
				if _, newest := history.known(); newest != nil {
					break
				}
			}
			revision, err := last(ctx, before)
			if err != nil {
				t.Fatal(err)
			}
			for tick := time.NewTicker(time.Millisecond); ; {
				if _, newest := history.known(); newest.revision == revision {
					break
				}
				select {
				case <-tick.C:
				case <-ctx.Done():
					t.Fatal("watches are not sent it")
				}
			}
			if err := history.verify(ctx, before.dialect.DB, before.dialect.CompactRevSQL); err != nil {
				t.Errorf("a new connection to it: %v", err)
			}
			end()
			after, end := opened(ctx, t, path, &history)
			defer end()
			if current, err := after.CurrentRevision(ctx); err != nil || current != revision {
				t.Errorf("opened anew it is at revision %d and was at %d: %v", current, revision, err)
			}
			if compacted, err := after.dialect.GetCompactRevision(ctx); err != nil || compacted != 0 {
				t.Errorf("opened anew it is compacted up to %d: %v", compacted, err)
			}
		})
	}
}

func deleted(ctx context.Context, b server.Backend) (int64, error) {
	made, err := b.Create(ctx, "/k", []byte("v"), 0)
	if err != nil {
		return 0, err
	}
	revision, _, _, err := b.Delete(ctx, "/k", made)
	return revision, err
}

// opened is a file of SQLite, until end.
func opened(ctx context.Context, t *testing.T, path string, history *History) (b *backend, end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	end = func() {
		cancel()
		running.Wait()
	}
	_, made, err := kinesqlite.NewVariant(ctx, &running, "sqlite3", &drivers.Config{
		DataSourceName:       path + "?_journal_mode=WAL&_busy_timeout=30000&_txlock=immediate",
		ConnectionPoolConfig: generic.ConnectionPoolConfig{MaxOpen: 10, MaxIdle: 10},
	})
	if err != nil {
		end()
		t.Fatal(err)
	}
	none := func(error) bool { return false }
	started, err := Start(ctx, &running, Database{Dialect: made, Writers: 1, Full: none, Refused: none, History: history})
	if err != nil {
		end()
		t.Fatal(err)
	}
	b, ok := started.(*backend)
	if !ok {
		end()
		t.Fatalf("backend %T", started)
	}
	return b, end
}

func TestWatchesThatComeNoFurtherAreSilent(t *testing.T) {
	var s silence
	now := time.Now()
	for i, c := range []struct {
		watched, current int64
		want             time.Duration // a second passes before each
	}{
		{5, 5, 0},
		{5, 6, time.Second},
		{5, 9, 2 * time.Second},
		{6, 12, 0}, // behind, but on their way
		{6, 12, time.Second},
		{12, 12, 0},
		{12, 12, 0},
		{12, 13, time.Second},
	} {
		now = now.Add(time.Second)
		if got := s.of(c.watched, c.current, now); got != c.want {
			t.Errorf("step %d: silent for %v, want %v", i, got, c.want)
		}
	}
}
