package extension_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/annex-api/annex/extension/internal/postgrestest"
)

// killPatience bounds a wait: a client that met several kills waits up to a minute before it tries again.
const killPatience = 3 * time.Minute

var killedWidgets = schema.GroupVersionResource{Group: "widgets.example.com", Version: "v1", Resource: "widgets"}

// killed are kills of one program under writes: of the server, of its database, of both.
type killed struct{ server, database bool }

// A program, its database, and both are killed while clients write, informers are told, and a watch goes on from
// the resourceVersion that it saw last. Nothing acknowledged is lost, and nothing that happened is kept from who watches.
func TestKilledUnderInformers(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds and kills a program; the short form has the store below it, in TestKilledServerLosesNothingAcknowledged")
	}
	path := filepath.Join(t.TempDir(), "widgets")
	build := exec.CommandContext(t.Context(), "go", "build", "-ldflags=-s -w", "-o", path, "github.com/annex-api/annex/examples/widgets/server")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build widgets: %v\n%s", err, out)
	}
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		// The database is a library of the server, and is killed with it.
		killUnderInformers(t, path, "sqlite://"+filepath.Join(t.TempDir(), "state.db"), nil, []killed{{server: true}, {server: true}})
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		database := postgrestest.Start(t)
		killUnderInformers(t, path, database.Database(), database, []killed{{server: true}, {database: true}, {server: true, database: true}})
	})
}

func killUnderInformers(t *testing.T, path, storage string, database *postgrestest.Server, kills []killed) {
	p := &widgetsProgram{t: t, path: path, folder: filepath.Join(t.TempDir(), "standalone"), storage: storage, port: freePort(t)}
	p.start()
	config := p.config()
	config.QPS = -1
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	board := client.Resource(killedWidgets).Namespace(metav1.NamespaceDefault)
	p.untilReady(config)

	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	var watching sync.WaitGroup
	defer func() { stop(); watching.Wait() }()
	views := map[string]func() map[string]string{}
	watched := &follower{objects: map[string]string{}, told: map[uint64]int{}}
	watching.Go(func() { watched.follow(ctx, board) })
	views["the watch"] = watched.view
	for name, able := range map[string]any{"the informer with WatchList": client, "the informer without WatchList": listsAndWatches{}} {
		informer := killedInformer(board, able)
		watching.Go(func() { informer.RunWithContext(ctx) })
		views[name] = func() map[string]string { return versionsOf(informer.GetStore().List()) }
	}

	writing, stopWriting := context.WithCancel(ctx)
	defer stopWriting()
	var writers []*ledger
	var written sync.WaitGroup
	for i := range 4 {
		l := &ledger{name: fmt.Sprintf("writer-%d", i), known: map[string]*stages{}}
		writers = append(writers, l)
		written.Go(func() { l.write(writing, board) })
	}
	defer func() { stopWriting(); written.Wait() }()
	untilMore := func() {
		t.Helper()
		before := acknowledged(writers)
		killsUntil(t, "60 more writes are acknowledged", func() error {
			if n := acknowledged(writers) - before; n < 60 {
				return fmt.Errorf("only %d", n)
			}
			return nil
		})
	}
	for _, k := range kills {
		untilMore()
		if k.database {
			database.Crash()
		}
		if k.server {
			p.kill()
			p.start() // without its database, where that was killed
		}
		if k.database {
			database.Restart()
		}
		p.untilReady(config)
	}
	untilMore()
	stopWriting()
	written.Wait()

	lost := checkLedgers(t, board, writers)
	for name, view := range views {
		killsUntil(t, name+" shows what is there", func() error {
			list, err := board.List(ctx, metav1.ListOptions{})
			if err != nil {
				return err
			}
			there := map[string]string{}
			for i := range list.Items {
				there[list.Items[i].GetName()] = list.Items[i].GetResourceVersion()
			}
			return sameVersions(view(), there)
		})
	}
	watched.check(t, writers)
	t.Logf("%d kills, %d acknowledged writes, %d lost", len(kills), acknowledged(writers), lost)
}

// widgetsProgram is examples/widgets/server, always at the same address.
type widgetsProgram struct {
	t                           *testing.T
	path, folder, storage, port string
	process                     *exec.Cmd
}

func (p *widgetsProgram) start() {
	p.t.Helper()
	var log bytes.Buffer
	cmd := exec.Command(p.path, "--standalone", p.folder, "--storage", p.storage, "--secure-port", p.port)
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.process = cmd
	p.t.Cleanup(func() {
		p.kill() // the last one still runs
		if p.t.Failed() {
			p.t.Logf("process %d said\n%s", cmd.Process.Pid, log.Bytes()[max(0, log.Len()-4<<10):])
		}
	})
}

// kill is kill -9, and returns when the program has gone.
func (p *widgetsProgram) kill() {
	p.t.Helper()
	if p.process.ProcessState != nil {
		return
	}
	if err := p.process.Process.Kill(); err != nil {
		p.t.Error(err)
	}
	_ = p.process.Wait() // it was killed
}

// config is that of the kubeconfig, which stays as it is over every start.
func (p *widgetsProgram) config() *rest.Config {
	p.t.Helper()
	var config *rest.Config
	killsUntil(p.t, "there is a kubeconfig", func() (err error) {
		config, err = clientcmd.BuildConfigFromFlags("", filepath.Join(p.folder, "kubeconfig"))
		return err
	})
	return config
}

func (p *widgetsProgram) untilReady(config *rest.Config) {
	p.t.Helper()
	h, err := rest.HTTPClientFor(config)
	if err != nil {
		p.t.Fatal(err)
	}
	killsUntil(p.t, "the server is ready", func() error {
		ctx, cancel := context.WithTimeout(p.t.Context(), 10*time.Second)
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, config.Host+"/readyz", nil)
		if err != nil {
			return err
		}
		response, err := h.Do(r)
		if err != nil {
			return err
		}
		response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("it says %s", response.Status)
		}
		return nil
	})
}

func killsUntil(t *testing.T, what string, happened func() error) {
	t.Helper()
	var last error
	err := wait.PollUntilContextTimeout(t.Context(), 20*time.Millisecond, killPatience, true, func(context.Context) (bool, error) {
		last = happened()
		return last == nil, nil
	})
	if err != nil {
		t.Fatalf("%s: %v", what, last)
	}
}

// freePort is one that a server is started at again and again: none that the kernel gives to others meanwhile.
func freePort(t *testing.T) string {
	t.Helper()
	var last error
	for range 100 {
		port := strconv.Itoa(10_000 + rand.IntN(20_000))
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", port))
		if err == nil {
			err = l.Close()
		}
		if err == nil {
			return port
		}
		last = err
	}
	t.Fatal(last)
	return ""
}
