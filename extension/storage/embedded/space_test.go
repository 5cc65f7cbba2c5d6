//go:build linux

package embedded

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/annex-api/annex/extension/storage"
	"github.com/annex-api/annex/internal/etcd"
)

func TestTheQuotaFitsTheFileSystem(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=640m"); err != nil {
		t.Skipf("NOT TESTED with a small disk: only root may mount one here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	if got, err := defaultQuota(filepath.Join(dir, "not", "there", "yet")); err != nil || got != 128<<20 {
		t.Errorf("quota %d, %v", got, err)
	}
	if got, err := defaultQuota("/proc"); err != nil || got != minQuota {
		t.Errorf("quota of a file system without any space: %d, %v", got, err)
	}
}

func TestAFullDiskIsAnErrorOfTheWriteAlone(t *testing.T) {
	if testing.Short() {
		t.Skip("it fills a disk")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=640m"); err != nil {
		t.Skipf("NOT TESTED with a full disk: only root may mount a small one here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	endpoint, err := storage.Open(t.Context(), "embedded://"+filepath.Join(dir, "etcd"), logr.Discard(), Driver())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := endpoint.Close(); err != nil {
			t.Error(err)
		}
	})
	client, err := clientv3.New(clientv3.Config{Endpoints: endpoint.Targets, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() }) // says that it was closed
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()

	value := string(make([]byte, 1<<20))
	acknowledged := 0
	for ; err == nil && acknowledged < 1000; acknowledged++ {
		_, err = client.Put(ctx, fmt.Sprintf("/k/%04d", acknowledged), value)
	}
	acknowledged-- // the last one failed
	if !errors.Is(err, rpctypes.ErrNoSpace) {
		t.Fatalf("after %d writes: %v", acknowledged, err)
	}
	got, err := client.Get(ctx, "/k/", clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil || got.Count != int64(acknowledged) {
		t.Errorf("%d objects are there, %d were acknowledged: %v", got.Count, acknowledged, err)
	}
	if _, err := client.Get(ctx, "/k/0000"); err != nil {
		t.Errorf("a read of a full disk: %v", err)
	}
	if _, err := client.Delete(ctx, "/k/0", clientv3.WithRange("/k/0050")); err != nil {
		t.Errorf("a deletion on a full disk: %v", err)
	}
	// What looks every ten seconds is called here at once.
	if err := makeSpace(ctx, client, 128<<20, logr.Discard()); err != nil {
		t.Error(err)
	}
	if _, err := client.Put(ctx, "/k/again", value); err != nil {
		t.Errorf("a write when there is space again: %v", err)
	}
	t.Logf("%d writes of 1 MiB, then an error for each; reads and deletions went on, and writes after 50 were deleted", acknowledged)
}

func TestSpaceIsMadeByItself(t *testing.T) {
	server, err := etcd.Start(t.Context(), etcd.Options{Dir: filepath.Join(t.TempDir(), "etcd"), QuotaBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	stop, err := keepSpace(server.Endpoint(), 1<<20, 10*time.Millisecond, logr.Discard())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{server.Endpoint()}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() }) // says that it was closed
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	put := func() error {
		_, err := client.Put(ctx, "/k", string(make([]byte, 100<<10)))
		return err
	}
	for err == nil {
		err = put()
	}
	if !errors.Is(err, rpctypes.ErrNoSpace) {
		t.Fatal(err)
	}
	// The history is what took the space, so nothing must be deleted.
	for tick := time.NewTicker(10 * time.Millisecond); put() != nil; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("writes are refused for ever")
		}
	}
}
