package store

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/apis/example"
	"k8s.io/apiserver/pkg/storage"

	"github.com/annex-api/annex/extension/internal/postgrestest"
)

// TestTwoServersOfOneDatabase has a database for each of its parts.
func TestTwoServersOfOneDatabase(t *testing.T) {
	server := postgrestest.Start(t)
	t.Run("each reads what the other wrote", func(t *testing.T) { readEachOthersWrites(t, server.Database()) })
	t.Run("a list and a watch miss nothing", func(t *testing.T) { listThenWatchMissesNothing(t, server.Database()) })
	t.Run("a list is quick while the other writes", func(t *testing.T) { listIsQuickWhileAnotherServerWrites(t, server.Database()) })
}

// Two servers share a database: each lists what the other has just written.
func readEachOthersWrites(t *testing.T, url string) {
	a, _ := openURL(t, url)
	defer closeOpened(t, a)
	b, _ := openURL(t, url)
	defer closeOpened(t, b)
	ofA, ofB := decorated(t, a), decorated(t, b)
	until(t, "ready", func() bool { return a.Ready() == nil && b.Ready() == nil })
	writes := 100
	if testing.Short() {
		writes = 20
	}
	for i := range writes {
		name := fmt.Sprintf("pod-%d", i)
		if err := ofA.Create(t.Context(), "/pods/default/"+name, podNamed(name), nil, 0); err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(names(list(t, ofB)), name) {
			t.Errorf("%s was written there and is not listed here", name)
		}
		ofA, ofB = ofB, ofA
	}
}

// Writers of one server list what they have just written, however many write at the same time.
func TestWritersReadTheirWrites(t *testing.T) {
	databases(t, func(t *testing.T, url string) {
		opened, _ := openURL(t, url)
		defer closeOpened(t, opened)
		pods := decorated(t, opened)
		until(t, "ready", func() bool { return opened.Ready() == nil })
		var running sync.WaitGroup
		writes := 10
		if testing.Short() {
			writes = 4
		}
		for writer := range 16 {
			running.Go(func() {
				for i := range writes {
					name := fmt.Sprintf("pod-%d-%d", writer, i)
					if err := pods.Create(t.Context(), "/pods/default/"+name, podNamed(name), nil, 0); err != nil {
						t.Error(err)
						return
					}
					got := &example.PodList{}
					if err := pods.GetList(t.Context(), "/pods/", storage.ListOptions{Predicate: storage.Everything, Recursive: true}, got); err != nil {
						t.Errorf("list after a write: %v", err)
					} else if !slices.Contains(names(got), name) {
						t.Errorf("%s was written and is not listed", name)
					}
				}
			})
		}
		running.Wait()
	})
}

// A consistent list waits until the watch cache has come to the database's revision, which others' writes move
// as well.
func TestAListAfterOverlappingWritesOfOthers(t *testing.T) {
	databases(t, func(t *testing.T, url string) {
		opened, _ := openURL(t, url)
		defer closeOpened(t, opened)
		pods := decorated(t, opened)
		until(t, "ready", func() bool { return opened.Ready() == nil })
		rounds := 20
		if testing.Short() {
			rounds = 5
		}
		for round := range rounds {
			var writes sync.WaitGroup
			for writer := range 6 {
				writes.Go(func() {
					if _, err := opened.client.Put(t.Context(), fmt.Sprintf("/others/%d-%d", round, writer), "v"); err != nil {
						t.Error(err)
					}
				})
			}
			writes.Wait()
			got := &example.PodList{}
			if err := pods.GetList(t.Context(), "/pods/", storage.ListOptions{Predicate: storage.Everything, Recursive: true}, got); err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
		}
	})
}

// A list and a watch from its resourceVersion have everything, however writes overlap.
func listThenWatchMissesNothing(t *testing.T, url string) {
	a, ofA := openURL(t, url)
	defer closeOpened(t, a)
	b, ofB := openURL(t, url)
	defer closeOpened(t, b)
	var all acknowledgedNames
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for writer := range 12 {
		running.Go(func() { all.write(ctx, []storage.Interface{ofA, ofB}[writer%2], writer) })
	}
	type begun struct {
		list    *example.PodList
		watcher watch.Interface
	}
	var readers []begun
	rounds := 40
	if testing.Short() {
		rounds = 10
	}
	for range rounds {
		before := all.count()
		until(t, "writes", func() bool { return all.count() > before+5 })
		got := list(t, ofA)
		w, err := ofA.Watch(t.Context(), "/pods/", storage.ListOptions{ResourceVersion: got.ResourceVersion, Predicate: storage.Everything, Recursive: true})
		if err != nil {
			t.Fatal(err)
		}
		readers = append(readers, begun{got, w})
	}
	stop()
	running.Wait()
	end := time.After(limit)
	for _, r := range readers {
		missing := all.all()
		for _, pod := range r.list.Items {
			delete(missing, pod.Name)
		}
		for len(missing) > 0 {
			select {
			case event := <-r.watcher.ResultChan():
				pod, ok := event.Object.(*example.Pod)
				if !ok {
					t.Fatalf("event %v %v", event.Type, event.Object)
				}
				delete(missing, pod.Name)
			case <-end:
				t.Fatalf("neither the list at %s nor the watch from there has %v", r.list.ResourceVersion, slices.Sorted(maps.Keys(missing)))
			}
		}
		r.watcher.Stop()
	}
}

// Another server writes to other kinds all the time. A consistent list here needs the progress of a watch that has
// no events.
func listIsQuickWhileAnotherServerWrites(t *testing.T, url string) {
	a, _ := openURL(t, url)
	defer closeOpened(t, a)
	b, _ := openURL(t, url)
	defer closeOpened(t, b)
	pods := decorated(t, b)
	until(t, "ready", func() bool { return b.Ready() == nil })
	ctx, stop := context.WithCancel(t.Context())
	var writer sync.WaitGroup
	defer writer.Wait()
	defer stop()
	var written atomic.Int64
	writer.Go(func() {
		for tick := time.NewTicker(10 * time.Millisecond); ctx.Err() == nil; {
			if _, err := a.client.Put(ctx, "/others/kind", "v"); err == nil {
				written.Add(1)
			}
			<-tick.C
		}
	})
	until(t, "writes", func() bool { return written.Load() > 20 })
	lists := 20
	if testing.Short() {
		lists = 5
	}
	took := make([]time.Duration, 0, lists)
	for range lists {
		began := time.Now()
		list(t, pods)
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	t.Logf("%d lists beside %d writes of another server: median %v, slowest %v", lists, written.Load(), took[lists/2].Round(time.Millisecond), took[lists-1].Round(time.Millisecond))
	// After three seconds the watch cache gives up, and asks the database. Without progress every list waits for
	// that; on a busy machine one or the other may.
	if took[0] >= 3*time.Second {
		t.Errorf("the quickest list took %v", took[0])
	}
}

// A server stands still while it holds the lock of all writes.
func TestAServerThatStandsStillDoesNotHoldTheOthers(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes as long as a server may stand still; the postgres driver has a short test of it")
	}
	t.Parallel()
	url := postgrestest.Start(t).Database()
	opened, pods := openURL(t, url)
	defer closeOpened(t, opened)
	asker, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer asker.Close(context.Background())
	still, out := startChild(t, writerURL, url)
	acknowledged := make(chan string, 10_000)
	go func() {
		defer close(acknowledged)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			acknowledged <- lines.Text()
		}
	}()
	defer func() {
		if err := still.Process.Kill(); err != nil {
			t.Error(err)
		}
		_ = still.Wait() // it was killed
		listed := names(list(t, pods))
		for name := range acknowledged {
			if !slices.Contains(listed, name) {
				t.Errorf("%s was acknowledged and is lost", name)
			}
		}
	}()
	until(t, "writes of the other", func() bool { return len(acknowledged) > 20 })
	until(t, "stopped inside a write", func() bool {
		signal(t, still, syscall.SIGSTOP)
		for range 20 {
			var held int
			err := asker.QueryRow(t.Context(), `SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE locktype = 'advisory'
				AND granted AND state = 'idle in transaction' AND clock_timestamp() - state_change > interval '10 ms'`).Scan(&held)
			if err != nil {
				t.Fatal(err)
			}
			if held > 0 {
				return true
			}
		}
		signal(t, still, syscall.SIGCONT)
		return false
	})
	began := time.Now()
	until(t, "write here", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		return pods.Create(ctx, "/pods/default/here", podNamed("here"), nil, 0) == nil
	})
	t.Logf("a server stood still inside a write; another wrote %v later", time.Since(began).Round(time.Millisecond))
	signal(t, still, syscall.SIGCONT)
}

func signal(t *testing.T, cmd *exec.Cmd, s os.Signal) {
	t.Helper()
	if err := cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// A database goes back in time where it fails over to a standby that lacks the last writes, or is restored.
func TestADatabaseThatGoesBackInTime(t *testing.T) {
	for name, after := range map[string]string{
		"it is shorter": "",
		// Before anybody looks again it has as many revisions as before.
		"others wrote since": `INSERT INTO kine (name, created, deleted, create_revision, prev_revision, lease, value)
			SELECT '/others/' || n, 1, 0, 0, 0, 0, 'v'::bytea FROM generate_series(1, 100) AS n`,
	} {
		t.Run(name, func(t *testing.T) {
			if testing.Short() && after == "" {
				t.Skip("the short form has the other, which is harder to find out")
			}
			t.Parallel()
			url := postgrestest.Start(t).Database()
			var opened [2]*Opened
			var pods [2]storage.Interface
			for i := range opened {
				opened[i], _ = openURL(t, url)
				defer closeOpened(t, opened[i])
				pods[i] = decorated(t, opened[i])
			}
			bothReady := func() bool { return opened[0].Ready() == nil && opened[1].Ready() == nil }
			until(t, "ready", bothReady)
			var kept, last *example.Pod
			for i := range 20 {
				last = create(t, pods[i%2], fmt.Sprintf("pod-%d", i))
				if i == 9 {
					kept = last
				}
			}
			seen := func(want int) func() bool {
				return func() bool { return len(cachedNames(t, pods[0])) == want && len(cachedNames(t, pods[1])) == want }
			}
			until(t, "seen by both", seen(20))
			client, err := pods[1].Watch(t.Context(), "/pods/", storage.ListOptions{ResourceVersion: last.ResourceVersion, Predicate: storage.Everything, Recursive: true})
			if err != nil {
				t.Fatal(err)
			}
			defer client.Stop()

			goBack(t, url, kept.ResourceVersion, after)
			until(t, "without what the database has no longer", seen(10))
			until(t, "ready again", bothReady)
			select {
			case event, more := <-client.ResultChan():
				if more && event.Type != watch.Error {
					t.Errorf("event %v", event)
				}
			case <-time.After(limit):
				t.Error("a watch from before goes on")
			}
			newer := create(t, pods[0], "new")
			if revision(t, newer) <= revision(t, last) {
				t.Errorf("the new one has resourceVersion %s, and %s was given before", newer.ResourceVersion, last.ResourceVersion)
			}
			until(t, "seen by both", seen(11))
			for i, p := range pods {
				if got := names(list(t, p)); len(got) != 11 {
					t.Errorf("server %d lists %v", i, got)
				}
				mustListAgain(t, p, last.ResourceVersion)
			}
		})
	}
}

// goBack takes back what was written after a revision, does one thing more, and ends all connections.
func goBack(t *testing.T, url, revision, after string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	x, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, statement := range []string{
		"LOCK TABLE kine IN ACCESS EXCLUSIVE MODE",
		"DELETE FROM kine WHERE id > " + revision,
		"SELECT setval(pg_get_serial_sequence('kine', 'id'), " + revision + ")",
		after,
		"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
	} {
		if _, err := x.Exec(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	if err := x.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// mustListAgain: who comes with a resourceVersion of before is told to.
func mustListAgain(t *testing.T, pods storage.Interface, resourceVersion string) {
	t.Helper()
	w, err := pods.Watch(t.Context(), "/pods/", storage.ListOptions{ResourceVersion: resourceVersion, Predicate: storage.Everything, Recursive: true})
	if err == nil {
		defer w.Stop()
		select {
		case event := <-w.ResultChan():
			err = apierrors.FromObject(event.Object)
		case <-time.After(limit):
		}
	}
	if !apierrors.IsResourceExpired(err) && !apierrors.IsGone(err) {
		t.Errorf("a watch from %s: %v", resourceVersion, err)
	}
}

// cachedNames are those that the watch cache has, whatever the database.
func cachedNames(t *testing.T, pods storage.Interface) []string {
	t.Helper()
	got := &example.PodList{}
	if err := pods.GetList(t.Context(), "/pods/", storage.ListOptions{ResourceVersion: "0", Predicate: storage.Everything, Recursive: true}, got); err != nil {
		return nil
	}
	return names(got)
}

func revision(t *testing.T, pod *example.Pod) uint64 {
	t.Helper()
	revision, err := storage.APIObjectVersioner{}.ParseResourceVersion(pod.ResourceVersion)
	if err != nil {
		t.Fatal(err)
	}
	return revision
}
