package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// settling is what a server writes in while it starts.
	settling = 15 * time.Second
	// watching is shorter than a minute, in which each Lease is renewed once.
	watching = 40 * time.Second
)

// TestIdleServerWritesSeldom counts what a server writes to etcd while nobody asks it for anything:
// Leases of its identity and of who writes conditions, once a minute at most, where kube-apiserver renews its identity every
// 10 s; and where its peers find it, which kube-apiserver renews as often and which has no setting.
func TestIdleServerWritesSeldom(t *testing.T) {
	t.Parallel()
	c := startUp(t, shortTemp(t), "--demo")
	etcd, err := clientv3.New(clientv3.Config{Endpoints: []string{c.etcd()}, DialTimeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	defer etcd.Close()

	written, err := writes(t.Context(), etcd, settling)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("while it settled: %v", written)
	if written, err = writes(t.Context(), etcd, watching); err != nil {
		t.Fatal(err)
	}
	t.Logf("while idle: %v", written)
	for _, key := range slices.Sorted(maps.Keys(written)) {
		switch n := written[key]; {
		case strings.HasPrefix(key, "/registry/peerserverleases/"):
		case !strings.HasPrefix(key, "/registry/leases/kube-system/"):
			t.Errorf("an idle server wrote %s, %d times", key, n)
		case n > 1:
			t.Errorf("%s was renewed %d times in %v", key, n, watching)
		}
	}
}

// writes counts the writes to each key over a time.
func writes(ctx context.Context, etcd *clientv3.Client, over time.Duration) (map[string]int, error) {
	ctx, cancel := context.WithTimeout(ctx, over)
	defer cancel()
	count := map[string]int{}
	for r := range etcd.Watch(ctx, "/registry/", clientv3.WithPrefix(), clientv3.WithCreatedNotify()) {
		if err := r.Err(); err != nil {
			return nil, fmt.Errorf("watching etcd: %w", err)
		}
		for _, e := range r.Events {
			count[string(e.Kv.Key)]++
		}
	}
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return nil, fmt.Errorf("the watch of etcd ended early: %w", context.Cause(ctx))
	}
	return count, nil
}
