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
	"github.com/annex-api/annex/extension/storage/etcd"
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
	for variable, child := range map[string]func(string) error{writerURL: writeForever, etcdDir: serveEtcd} {
		if value := os.Getenv(variable); value != "" {
			if err := child(value); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
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
		if testing.Short() {
			t.Skip("the short form has SQLite, and other tests of PostgreSQL")
		}
		each(t, postgrestest.Start(t).Database())
	})
}

// The server is killed while it writes. A watcher that goes on from where it was then sees each write once.
func TestKilledServerLosesNothingAcknowledged(t *testing.T) {
	databases(t, func(t *testing.T, url string) {
		acknowledged, seen, from := map[string]bool{}, map[string]bool{}, "1"
		rounds := 3
		if testing.Short() {
			rounds = 1
		}
		for round := range rounds {
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
		t.Logf("%d kills, %d acknowledged writes, %d seen by the watcher", rounds, len(acknowledged), len(seen))
	})
}

// killedWriter runs a server that writes, kills it after so many writes, and gives what it acknowledged.
func killedWriter(t *testing.T, url string, writes int) []string {
	t.Helper()
	cmd, out := startChild(t, writerURL, url)
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

// startChild runs this test binary as something else, which a variable names. Whoever starts it ends it.
func startChild(t *testing.T, variable, value string) (*exec.Cmd, io.Reader) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), variable+"="+value)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, out
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

// openURL opens a database and gives the etcd3 store of pods over it, when that is open.
func openURL(t *testing.T, url string) (*Opened, storage.Interface) {
	t.Helper()
	endpoint, err := driver.Open(t.Context(), url, logr.Discard(), sqlite.Driver(), postgres.Driver(), etcd.Driver())
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
