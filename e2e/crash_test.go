package e2e

import (
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// crashes under writes; every fourth is followed by one while starting.
const crashes = 10

// TestKillUnderWrites kills the server at random moments, some of them while it starts, and asks
// for everything that was acknowledged, of the server itself and of the extension server behind it.
func TestKillUnderWrites(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	configMaps := schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	notices := schema.GroupVersionResource{Group: "demo.annex.dev", Version: "v1", Resource: "notices"}
	var writers []*writer
	for i := range 3 {
		writers = append(writers, newWriter(fmt.Sprintf("map-%d", i), configMaps, "ConfigMap", seed+uint64(i), func() map[string]any {
			return map[string]any{"data": map[string]any{"filling": strings.Repeat("x", 500)}}
		}))
	}
	for i := range 2 {
		writers = append(writers, newWriter(fmt.Sprintf("notice-%d", i), notices, "Notice", seed+10+uint64(i), func() map[string]any {
			return map[string]any{"spec": map[string]any{"message": "Written under fire.", "severity": "info"}}
		}))
	}

	dir := shortTemp(t)
	args := []string{"--port=" + port(t), "--demo"}
	var total int64
	for i := range crashes {
		if i%4 == 3 {
			p := start(t, "annex", append([]string{"up", "--data-dir=" + dir}, args...)...)
			at := []string{"certificates: done", "etcd: done", "API server: done"}[random.IntN(3)]
			if _, err := p.awaitOutput(p.stderr, at); err != nil {
				t.Fatal(err)
			}
			p.kill()
		}
		c := startUp(t, dir, args...)
		verifyAll(t, c, writers)
		goal := int64(20 + random.IntN(400))
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		load := startLoad(ctx, c.dynamic, writers)
		eventually(t, fmt.Sprintf("%d acknowledged writes", goal), func(context.Context) error {
			if n := load.acknowledged.Load(); n < goal {
				return fmt.Errorf("only %d", n)
			}
			return nil
		})
		c.kill()
		err := load.wait()
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		total += load.acknowledged.Load()
	}
	c := startUp(t, dir, args...)
	verifyAll(t, c, writers)
	t.Logf("%d kills, %d acknowledged writes", crashes, total)
	c.signal(syscall.SIGINT)
	if code := c.exitCode(t); code != 0 {
		t.Errorf("exit code %d after SIGINT, want 0", code)
	}
	checkDatabase(t, filepath.Join(dir, "etcd"))
}

func verifyAll(t *testing.T, c *cluster, writers []*writer) {
	t.Helper()
	if a := get(t, c.admin, "/readyz?verbose"); a.code != http.StatusOK {
		t.Fatalf("/readyz: %d %s", a.code, a.body)
	}
	for _, w := range writers {
		if err := w.verify(t.Context(), c.dynamic); err != nil {
			t.Fatal(err)
		}
	}
}

// checkDatabase reads every page of the database of a server that has ended.
func checkDatabase(t *testing.T, dir string) {
	t.Helper()
	db, err := bolt.Open(filepath.Join(dir, "member", "snap", "db"), fs.FileMode(0o600), &bolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.View(func(tx *bolt.Tx) error {
		for err := range tx.Check() {
			t.Errorf("the database is corrupt: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
