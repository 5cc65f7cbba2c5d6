package store

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/sirupsen/logrus"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/apis/example"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/klog/v2"

	"github.com/annex-api/annex/extension/internal/postgrestest"
	driver "github.com/annex-api/annex/extension/storage"
	"github.com/annex-api/annex/extension/storage/kine/postgres"
	"github.com/annex-api/annex/extension/storage/kine/sqlite"
)

// writerURL makes the test binary a writer, for TestKilledServerLosesNothingAcknowledged.
const writerURL = "ANNEX_TEST_WRITER_URL"

func TestMain(m *testing.M) {
	// Both say much of what tests do on purpose.
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
	logrus.SetOutput(io.Discard)
	if url := os.Getenv(writerURL); url != "" {
		if err := writeForever(url); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// databases are those that survive their server.
func databases(t *testing.T, each func(t *testing.T, url string)) {
	t.Run("sqlite", func(t *testing.T) {
		each(t, "sqlite://"+filepath.Join(t.TempDir(), "state.db"))
	})
	t.Run("postgres", func(t *testing.T) {
		each(t, postgrestest.Start(t).Database())
	})
}

// The server is killed while it writes. A watcher that goes on from where it was then sees each write once.
func TestKilledServerLosesNothingAcknowledged(t *testing.T) {
	databases(t, func(t *testing.T, url string) {
		acknowledged, seen, from := map[string]bool{}, map[string]bool{}, "1"
		for round := range 3 {
			for _, name := range killedWriter(t, url, 60+17*round) {
				acknowledged[name] = true
			}
			opened, pods := openURL(t, url)
			listed := names(list(t, pods))
			for name := range acknowledged {
				if !slices.Contains(listed, name) {
					t.Errorf("round %d: of %d acknowledged writes %s is lost", round, len(acknowledged), name)
				}
			}
			from = watchUntil(t, pods, from, seen, acknowledged)
			if err := opened.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}

// killedWriter runs a server that writes, kills it after so many writes, and gives what it acknowledged.
func killedWriter(t *testing.T, url string, writes int) []string {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), writerURL+"="+url)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var acknowledged []string
	for lines := bufio.NewScanner(out); lines.Scan(); {
		// Lines that are in the pipe when it is killed are acknowledged too.
		acknowledged = append(acknowledged, lines.Text())
		if len(acknowledged) == writes {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil || len(acknowledged) < writes {
		t.Fatalf("the writer ended on its own after %d writes: %v", len(acknowledged), err)
	}
	return acknowledged
}

// writeForever writes from several goroutines and says each name that was acknowledged.
func writeForever(url string) error {
	endpoint, err := driver.Open(context.Background(), url, logr.Discard(), sqlite.Driver(), postgres.Driver())
	if err != nil {
		return err
	}
	opened, err := Open(context.Background(), endpoint)
	if err != nil {
		return err
	}
	pods, _, err := opened.raw(podConfig(), "/pods/", newPod, newPodList)
	if err != nil {
		return err
	}
	failed := make(chan error)
	for writer := range 4 {
		go func() {
			for i := 0; ; i++ {
				name := fmt.Sprintf("pod-%d-%d-%d", os.Getpid(), writer, i)
				err := pods.Create(context.Background(), "/pods/default/"+name, podNamed(name), nil, 0)
				if err != nil && codeOf(err).String() == "Unavailable" {
					continue // it is being opened
				}
				if err != nil {
					failed <- err
					return
				}
				fmt.Println(name)
			}
		}()
	}
	return <-failed
}

// watchUntil watches from a resourceVersion until all are seen, none twice, and gives the last one's.
func watchUntil(t *testing.T, pods storage.Interface, from string, seen, all map[string]bool) string {
	t.Helper()
	w, err := pods.Watch(t.Context(), "/pods/", storage.ListOptions{ResourceVersion: from, Predicate: storage.Everything, Recursive: true})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	missing := func() []string {
		return slices.DeleteFunc(slices.Sorted(maps.Keys(all)), func(name string) bool { return seen[name] })
	}
	end := time.After(limit)
	for len(missing()) > 0 {
		select {
		case event, more := <-w.ResultChan():
			pod, ok := event.Object.(*example.Pod)
			if ok && event.Type == watch.Bookmark {
				from = pod.ResourceVersion
				continue
			}
			if !more || !ok || event.Type != watch.Added {
				t.Fatalf("watch from %s: %v %v; %d are missing", from, event.Type, event.Object, len(missing()))
			}
			if seen[pod.Name] {
				t.Errorf("%s is seen twice", pod.Name)
			}
			seen[pod.Name], from = true, pod.ResourceVersion
		case <-end:
			t.Fatalf("watch from %s: never seen: %v", from, missing())
		}
	}
	return from
}

// The database is killed twice under writes, lists and a watch. The server goes on by itself.
func TestKilledDatabase(t *testing.T) {
	server := postgrestest.Start(t)
	opened, pods := openURL(t, server.Database())
	defer func() {
		if err := opened.Close(); err != nil {
			t.Error(err)
		}
	}()
	cachedPods := decorated(t, opened)
	until(t, "ready", func() bool { return opened.Ready() == nil })

	var names acknowledgedNames
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for writer := range 4 {
		running.Go(func() { names.write(ctx, pods, writer) })
	}
	for _, lister := range []storage.Interface{pods, cachedPods} {
		running.Go(func() { names.neverListedLess(ctx, t, lister) })
	}
	seen := sightings{names: map[string]bool{}, last: "1"}
	running.Go(func() { seen.watch(ctx, t, pods) })

	for range 2 {
		before := names.count()
		until(t, "writes", func() bool { return names.count() > before+50 })
		server.Kill()
		until(t, "not ready", func() bool { return opened.Ready() != nil })
		server.Restart()
		until(t, "ready again", func() bool { return opened.Ready() == nil })
	}
	before := names.count()
	until(t, "writes again", func() bool { return names.count() > before+50 })
	stop()
	running.Wait()
	if names.lists.Load() < 10 {
		t.Errorf("only %d lists were answered", names.lists.Load())
	}
	// What the watch has seen, and what it sees from there on, is all.
	watchUntil(t, pods, seen.last, seen.names, names.all())
}

// acknowledgedNames are those whose write was acknowledged.
type acknowledgedNames struct {
	mu    sync.Mutex
	names map[string]bool
	lists atomic.Int64
}

func (a *acknowledgedNames) add(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.names == nil {
		a.names = map[string]bool{}
	}
	a.names[name] = true
}

func (a *acknowledgedNames) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.names)
}

func (a *acknowledgedNames) all() map[string]bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.names)
}

// write creates until ctx ends. A write whose answer was lost is no acknowledged one.
func (a *acknowledgedNames) write(ctx context.Context, pods storage.Interface, writer int) {
	for i := 0; ctx.Err() == nil; i++ {
		name := fmt.Sprintf("pod-%d-%d", writer, i)
		if err := pods.Create(ctx, "/pods/default/"+name, podNamed(name), nil, 0); err == nil {
			a.add(name)
		}
	}
}

// neverListedLess lists until ctx ends: an answer has at least what was acknowledged before it was asked for.
func (a *acknowledgedNames) neverListedLess(ctx context.Context, t *testing.T, pods storage.Interface) {
	for ctx.Err() == nil {
		before := a.all()
		got := &example.PodList{}
		bounded, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := pods.GetList(bounded, "/pods/", storage.ListOptions{Predicate: storage.Everything, Recursive: true}, got)
		cancel()
		if err != nil {
			continue
		}
		a.lists.Add(1)
		for _, pod := range got.Items {
			delete(before, pod.Name)
		}
		if len(before) > 0 {
			t.Errorf("a list of %d lacks %d that were acknowledged before", len(got.Items), len(before))
			return
		}
	}
}

// sightings is what a watch has seen, and how far it came.
type sightings struct {
	names map[string]bool
	last  string
}

// watch goes on from where it came whenever the watch ends, until ctx does.
func (s *sightings) watch(ctx context.Context, t *testing.T, pods storage.Interface) {
	for ctx.Err() == nil {
		w, err := pods.Watch(ctx, "/pods/", storage.ListOptions{ResourceVersion: s.last, Predicate: storage.Everything, Recursive: true})
		if err != nil {
			continue
		}
		for event := range w.ResultChan() {
			pod, ok := event.Object.(*example.Pod)
			if !ok {
				break // an error ends it
			}
			if event.Type == watch.Bookmark {
				s.last = pod.ResourceVersion
				continue
			}
			if s.names[pod.Name] {
				t.Errorf("%s is seen twice", pod.Name)
			}
			s.names[pod.Name], s.last = true, pod.ResourceVersion
		}
		w.Stop()
	}
}

// Two servers share a database: each lists what the other has just written.
func TestTwoServersReadEachOthersWrites(t *testing.T) {
	url := postgrestest.Start(t).Database()
	a, _ := openURL(t, url)
	defer closeOpened(t, a)
	b, _ := openURL(t, url)
	defer closeOpened(t, b)
	ofA, ofB := decorated(t, a), decorated(t, b)
	until(t, "ready", func() bool { return a.Ready() == nil && b.Ready() == nil })
	for i := range 100 {
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
		for writer := range 16 {
			running.Go(func() {
				for i := range 10 {
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
		for round := range 20 {
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
func TestListThenWatchMissesNothing(t *testing.T) {
	url := postgrestest.Start(t).Database()
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
	for range 40 {
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

// openURL opens a database and gives the etcd3 store of pods over it, when that is open.
func openURL(t *testing.T, url string) (*Opened, storage.Interface) {
	t.Helper()
	endpoint, err := driver.Open(t.Context(), url, logr.Discard(), sqlite.Driver(), postgres.Driver())
	if err != nil {
		t.Fatal(err)
	}
	opened, err := Open(t.Context(), endpoint)
	if err != nil {
		t.Fatal(err)
	}
	pods, closePods, err := opened.raw(podConfig(), "/pods/", newPod, newPodList)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(closePods)
	until(t, "open", func() bool { return opened.Ready() == nil })
	return opened, pods
}

func closeOpened(t *testing.T, opened *Opened) {
	t.Helper()
	if err := opened.Close(); err != nil {
		t.Error(err)
	}
}

func list(t *testing.T, pods storage.Interface) *example.PodList {
	t.Helper()
	got := &example.PodList{}
	if err := pods.GetList(t.Context(), "/pods/", storage.ListOptions{Predicate: storage.Everything, Recursive: true}, got); err != nil {
		t.Fatal(err)
	}
	return got
}

func names(list *example.PodList) []string {
	var all []string
	for _, pod := range list.Items {
		all = append(all, pod.Name)
	}
	return all
}

// until waits for what comes soon.
func until(t *testing.T, what string, happened func() bool) {
	t.Helper()
	err := wait.PollUntilContextTimeout(t.Context(), 5*time.Millisecond, limit, true, func(context.Context) (bool, error) { return happened(), nil })
	if err != nil {
		t.Fatalf("never %s", what)
	}
}
