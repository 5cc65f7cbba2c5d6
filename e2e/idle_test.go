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
	// settling is a time without a write too many after which a server has started,
	// which takes settled at most.
	settling, settled = 15 * time.Second, 3 * time.Minute
	// watching is shorter than a minute, in which the identity Lease is renewed once.
	watching = 40 * time.Second
	// renewal is how often the holder of the status Lease renews it.
	renewal = 10 * time.Second
)

// TestIdleServerWritesSeldom counts what a server writes to etcd while nobody asks it for anything:
// the Lease of its identity once a minute at most, where kube-apiserver renews that every 10 s; the Lease of who writes conditions
// every 10 s; and where its peers find it, which kube-apiserver renews as often and which has no setting.
func TestIdleServerWritesSeldom(t *testing.T) {
	t.Parallel()
	c := startUp(t, shortTemp(t), "--demo")
	etcd, err := clientv3.New(clientv3.Config{Endpoints: []string{c.etcd()}, DialTimeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	defer etcd.Close()

	for begin := time.Now(); ; {
		written, err := writes(t.Context(), etcd, settling)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("while it settled: %v", written)
		many := tooMany(written, settling)
		if len(many) == 0 {
			break
		}
		if time.Since(begin) > settled {
			t.Fatalf("in %v, that long after its start, the server wrote too much: %q", settling, many)
		}
	}
	written, err := writes(t.Context(), etcd, watching)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("while idle: %v", written)
	for _, what := range tooMany(written, watching) {
		t.Errorf("an idle server wrote in %v %s", watching, what)
	}
}

// tooMany are the writes that an idle server does not make within a time, which is shorter than a minute.
func tooMany(written map[string]int, within time.Duration) (many []string) {
	for _, key := range slices.Sorted(maps.Keys(written)) {
		n, most := written[key], 1
		if key == "/registry/leases/kube-system/annex-aggregation-status" {
			most += int(within / renewal)
		}
		seldom := n <= most && strings.HasPrefix(key, "/registry/leases/kube-system/")
		if !seldom && !strings.HasPrefix(key, "/registry/peerserverleases/") {
			many = append(many, fmt.Sprintf("%s, %d times", key, n))
		}
	}
	return many
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
