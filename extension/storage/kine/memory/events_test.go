package memory_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
)

// limit is for what takes milliseconds where nothing is wrong.
const limit = 30 * time.Second

// kine's memory sends events again after a compaction, one more with each, and leaves those out
// that were compacted before it came to them.
func TestAnEventIsSeenOnceAfterCompactions(t *testing.T) {
	for range 20 {
		seenOnce(t)
	}
}

func seenOnce(t *testing.T) {
	t.Helper()
	e := open(t)
	c, err := clientv3.New(clientv3.Config{Endpoints: e.Targets, DialOptions: []grpc.DialOption{grpc.WithContextDialer(e.Dial)}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }() // says that it was closed
	end := time.After(limit)
	for tick := time.NewTicker(time.Millisecond); e.Check(t.Context()) != nil; {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("never open: %v", e.Check(t.Context()))
		}
	}
	watch := c.Watch(t.Context(), "/k/", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	<-watch
	const events = 30
	var want []string
	for i := range events {
		key := fmt.Sprintf("/k/%02d", i)
		put, err := c.Put(t.Context(), key, "v")
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, key)
		if i%5 == 4 {
			if _, err := c.Compact(t.Context(), put.Header.Revision); err != nil {
				t.Fatal(err)
			}
		}
	}
	var got []string
	for !slices.Contains(got, want[events-1]) {
		select {
		case answer := <-watch:
			if err := answer.Err(); err != nil {
				t.Fatal(err)
			}
			for _, event := range answer.Events {
				got = append(got, string(event.Kv.Key))
			}
		case <-end:
			t.Fatalf("seen %v", got)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("seen %v\nwant %v", got, want)
	}
}
