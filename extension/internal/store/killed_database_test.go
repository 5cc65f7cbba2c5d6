package store

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apiserver/pkg/apis/example"
	"k8s.io/apiserver/pkg/storage"

	"github.com/annex-api/annex/extension/internal/postgrestest"
	"github.com/annex-api/annex/internal/etcd"
)

// database is one that runs in another process than its server.
type database struct {
	url string
	// kill is kill -9; start runs it again.
	kill, start func()
}

// elsewhere are the databases that may go while their server stays.
var elsewhere = map[string]func(t *testing.T) database{
	"postgres": func(t *testing.T) database {
		server := postgrestest.Start(t)
		return database{url: server.Database(), kill: server.Crash, start: server.Restart}
	},
	"etcd": func(t *testing.T) database {
		dir, err := os.MkdirTemp("", "annex-etcd-") // the path of a socket must be short
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		socket, err := etcd.Endpoint(dir)
		if err != nil {
			t.Fatal(err)
		}
		process := startEtcd(t, dir)
		kill := func() {
			if err := process.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = process.Wait() // it was killed
		}
		t.Cleanup(func() { kill() })
		return database{
			url: "etcd://" + strings.TrimPrefix(socket, "unix://"), kill: kill,
			start: func() { process = startEtcd(t, dir) },
		}
	},
}

// The database is killed under writes, lists and a watch. Meanwhile requests are answered with 503, never with
// less than there is; afterwards the server goes on by itself.
func TestKilledDatabase(t *testing.T) {
	for name, start := range elsewhere {
		t.Run(name, func(t *testing.T) {
			if testing.Short() && name == "etcd" {
				t.Skip("the short form has PostgreSQL alone")
			}
			t.Parallel()
			killedDatabase(t, start(t))
		})
	}
}

func killedDatabase(t *testing.T, d database) {
	opened, pods := openURL(t, d.url)
	defer closeOpened(t, opened)
	cachedPods := decorated(t, opened)
	until(t, "ready", func() bool { return opened.Ready() == nil })

	var names acknowledgedNames
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	for writer := range 4 {
		running.Go(func() { names.write(ctx, pods, writer) })
	}
	for _, lister := range []storage.Interface{pods, cachedPods} {
		running.Go(func() { names.neverListedLess(ctx, t, lister) })
	}
	seen := sightings{names: map[string]bool{}, last: "1"}
	running.Go(func() { seen.watch(ctx, t, pods) })

	rounds := 2
	if testing.Short() {
		rounds = 1
	}
	var away, back time.Duration
	for range rounds {
		before := names.count()
		until(t, "writes", func() bool { return names.count() > before+50 })
		d.kill()
		killed := time.Now()
		until(t, "not ready", func() bool { return opened.Ready() != nil })
		until(t, "away", func() bool { return opened.reach.awayError() != nil })
		away = max(away, time.Since(killed))
		refused(t, cachedPods, names.count())
		d.start()
		started := time.Now()
		until(t, "ready again", func() bool { return opened.Ready() == nil })
		back = max(back, time.Since(started))
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
	t.Logf("%d kills, %d acknowledged writes, all seen by the watcher, %d lists that lacked none; requests refused %v after a kill, ready %v after the start",
		rounds, names.count(), names.lists.Load(), away.Round(time.Millisecond), back.Round(time.Millisecond))
}

// refused: what needs the storage is answered with 503 before its own time is over, and the watch cache gives what
// it has or 503.
func refused(t *testing.T, pods storage.Interface, acknowledged int) {
	t.Helper()
	for name, request := range map[string]func(context.Context) error{
		"create": func(ctx context.Context) error {
			return pods.Create(ctx, "/pods/default/away", podNamed("away"), nil, 0)
		},
		"get": func(ctx context.Context) error {
			return pods.Get(ctx, "/pods/default/away", storage.GetOptions{}, &example.Pod{})
		},
		"list": func(ctx context.Context) error {
			return pods.GetList(ctx, "/pods/", storage.ListOptions{Predicate: storage.Everything, Recursive: true}, &example.PodList{})
		},
		"delete": func(ctx context.Context) error {
			return pods.Delete(ctx, "/pods/default/away", &example.Pod{}, nil, storage.ValidateAllObjectFunc, nil, storage.DeleteOptions{})
		},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		if err := request(ctx); !apierrors.IsServiceUnavailable(err) || ctx.Err() != nil {
			t.Errorf("%s while the database is away: %v", name, err)
		}
		cancel()
	}
	got := &example.PodList{}
	err := pods.GetList(t.Context(), "/pods/", storage.ListOptions{ResourceVersion: "0", Predicate: storage.Everything, Recursive: true}, got)
	// Of the writes just before the end the cache may not have heard.
	if !apierrors.IsServiceUnavailable(err) && (err != nil || len(got.Items) < acknowledged/2) {
		t.Errorf("list from the watch cache while the database is away: %v, %d objects of %d", err, len(got.Items), acknowledged)
	}
}

// etcdDir makes the test binary an etcd.
const etcdDir = "ANNEX_TEST_ETCD_DIR"

func startEtcd(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	process, out := startChild(t, etcdDir, dir)
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("etcd said %q: %v", line, err)
	}
	return process
}

// serveEtcd runs etcd until it is killed, and says when it serves.
func serveEtcd(dir string) error {
	if _, err := etcd.Start(context.Background(), etcd.Options{Dir: dir}); err != nil {
		return err
	}
	fmt.Println("serving")
	select {}
}
