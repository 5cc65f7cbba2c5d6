package kine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/k3s-io/kine/pkg/drivers"
	kinememory "github.com/k3s-io/kine/pkg/drivers/memory"
	"github.com/k3s-io/kine/pkg/server"
	"github.com/sirupsen/logrus"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/annex-api/annex/extension/storage"
)

// limit is for what takes milliseconds where nothing is wrong.
const limit = 30 * time.Second

var errAway = errors.New("the database is away")

func TestMain(m *testing.M) {
	logrus.SetOutput(io.Discard)
	os.Exit(m.Run())
}

func openMemory(ctx context.Context, running *sync.WaitGroup) (server.Backend, error) {
	_, backend, err := kinememory.New(ctx, running, &drivers.Config{})
	if err != nil {
		return nil, err
	}
	return backend, backend.Start(ctx)
}

func start(t *testing.T, open Open) *storage.Endpoint {
	t.Helper()
	e := Start("test storage", logr.Discard(), open, Options{})
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// dial connects without the etcd client, which tries again by itself.
func dial(t *testing.T, e *storage.Endpoint) etcdserverpb.KVClient {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:test", grpc.WithContextDialer(e.Dial), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // says that it was closed
	return etcdserverpb.NewKVClient(conn)
}

func client(t *testing.T, e *storage.Endpoint) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: e.Targets, DialOptions: []grpc.DialOption{grpc.WithContextDialer(e.Dial)}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // says that it was closed
	return c
}

func untilOpen(t *testing.T, e *storage.Endpoint) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	for tick := time.NewTicker(time.Millisecond); e.Check(ctx) != nil; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("never open: %v", e.Check(ctx))
		}
	}
}

func TestRequestsAreRefusedUntilTheDatabaseIsOpen(t *testing.T) {
	attempts, there := make(chan struct{}), atomic.Bool{}
	var began, ended atomic.Int32
	e := start(t, func(ctx context.Context, running *sync.WaitGroup) (server.Backend, error) {
		began.Add(1)
		running.Go(func() {
			<-ctx.Done()
			ended.Add(1)
		})
		switch {
		case !there.Load() && began.Load() == 2:
			panic("a fault of the driver")
		case !there.Load():
			select {
			case attempts <- struct{}{}:
			case <-ctx.Done():
			}
			return nil, errAway
		}
		return openMemory(ctx, running)
	})
	kv := dial(t, e)
	refused := func() {
		t.Helper()
		_, err := kv.Range(t.Context(), &etcdserverpb.RangeRequest{Key: []byte("k")})
		if status.Code(err) != codes.Unavailable {
			t.Errorf("a read: %v", err)
		}
		if err := e.Check(t.Context()); err == nil {
			t.Error("a check passes")
		}
	}
	refused()
	<-attempts
	<-attempts // after the one that panicked
	refused()
	there.Store(true)
	untilOpen(t, e)
	if _, err := kv.Range(t.Context(), &etcdserverpb.RangeRequest{Key: []byte("k")}); err != nil {
		t.Errorf("a read when it is open: %v", err)
	}
	if began.Load() != ended.Load()+1 {
		t.Errorf("%d attempts began, %d ended; the last one goes on", began.Load(), ended.Load())
	}
}

func TestWhatIsWrongIsInTheCheck(t *testing.T) {
	e := start(t, func(context.Context, *sync.WaitGroup) (server.Backend, error) { return nil, errAway })
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	for tick := time.NewTicker(time.Millisecond); !errors.Is(e.Check(ctx), errAway); {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("check says %v", e.Check(ctx))
		}
	}
}

// kine's own stream answers with eleven objects and says that there are no more.
func TestAStreamedPageIsWhole(t *testing.T) {
	e := start(t, openMemory)
	untilOpen(t, e)
	c := client(t, e)
	for i := range 25 {
		if _, err := c.Put(t.Context(), fmt.Sprintf("/k/%02d", i), "v"); err != nil {
			t.Fatal(err)
		}
	}
	for _, limit := range []int64{1, 9, 10, 11, 30} {
		stream, err := dial(t, e).RangeStream(t.Context(), &etcdserverpb.RangeRequest{Key: []byte("/k/"), RangeEnd: []byte("/k0"), Limit: limit})
		if err != nil {
			t.Fatal(err)
		}
		var got int64
		var more bool
		for {
			answer, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			got, more = got+int64(len(answer.RangeResponse.Kvs)), answer.RangeResponse.More
		}
		if got != min(limit, 25) || more != (limit < 25) {
			t.Errorf("limit %d: %d objects, more: %v", limit, got, more)
		}
	}
}

// losing is a backend that may be lost.
type losing struct {
	server.Backend
	lost chan error
}

func (l losing) Lost() <-chan error { return l.lost }

func TestADatabaseThatIsLostIsOpenedAgain(t *testing.T) {
	lost := make(chan error)
	var openings, ended atomic.Int32
	e := start(t, func(ctx context.Context, running *sync.WaitGroup) (server.Backend, error) {
		openings.Add(1)
		running.Go(func() {
			<-ctx.Done()
			ended.Add(1)
		})
		backend, err := openMemory(ctx, running)
		return losing{backend, lost}, err
	})
	untilOpen(t, e)
	c := client(t, e)
	if _, err := c.Put(t.Context(), "/k/first", "v"); err != nil {
		t.Fatal(err)
	}
	watch := c.Watch(t.Context(), "/k/", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	<-watch
	lost <- errAway
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	for tick := time.NewTicker(time.Millisecond); openings.Load() < 2 || e.Check(ctx) != nil; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("opened %d times: %v", openings.Load(), e.Check(ctx))
		}
	}
	if ended.Load() != 1 {
		t.Errorf("%d openings ended", ended.Load())
	}
	// What was there is another database now, and the watch is of it.
	if got, err := c.Get(ctx, "/k/first"); err != nil || len(got.Kvs) != 0 {
		t.Errorf("got %v, %v", got, err)
	}
	for i := 0; ; i++ {
		if _, err := c.Put(ctx, fmt.Sprintf("/k/%d", i), "v"); err != nil {
			t.Fatal(err)
		}
		select {
		case answer := <-watch:
			if err := answer.Err(); err != nil {
				t.Fatal(err)
			}
			if len(answer.Events) > 0 {
				return
			}
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			t.Fatal("the watch of the database before has no event of the one after")
		}
	}
}

// others is a backend whose watches are behind what others have written.
type others struct {
	server.Backend
	watched int64
}

func (o others) Watched() int64 { return o.watched }

func (others) CurrentRevision(context.Context) (int64, error) { return 9, nil }

func TestTheProgressOfWatchesIsTheirOwn(t *testing.T) {
	for watched, want := range map[int64]int64{7: 7, 0: 9} { // 0: nothing was polled yet
		got, err := (&ascending{others{watched: watched}}).CurrentRevision(t.Context())
		if err != nil || got != want {
			t.Errorf("watches at %d: progress %d, %v", watched, got, err)
		}
	}
}

// sink is the client's side of a stream of watches.
type sink struct {
	etcdserverpb.Watch_WatchServer
	got []int64
}

func (s *sink) Send(r *etcdserverpb.WatchResponse) error {
	s.got = append(s.got, r.Header.Revision)
	return nil
}

// A watch cache would take an older revision for its own, and be believed to lack what it has.
func TestProgressNeverGoesBack(t *testing.T) {
	var s sink
	p := &progressing{Watch_WatchServer: &s, sent: map[int64]int64{}}
	event := []*mvccpb.Event{{}}
	for _, r := range []*etcdserverpb.WatchResponse{
		{WatchId: 1, Created: true, Header: &etcdserverpb.ResponseHeader{Revision: 1}},
		{WatchId: 2, Created: true, Header: &etcdserverpb.ResponseHeader{Revision: 2}},
		{WatchId: 1, Events: event, Header: &etcdserverpb.ResponseHeader{Revision: 12}},
		{WatchId: 1, Header: &etcdserverpb.ResponseHeader{Revision: 11}},  // older than the event
		{WatchId: 2, Header: &etcdserverpb.ResponseHeader{Revision: 10}},  // of the other one
		{WatchId: -1, Header: &etcdserverpb.ResponseHeader{Revision: 11}}, // of both, and one is further
		{WatchId: -1, Header: &etcdserverpb.ResponseHeader{Revision: 13}},
		{WatchId: 2, Header: &etcdserverpb.ResponseHeader{Revision: 12}}, // older than the progress of both
		{WatchId: 1, Canceled: true, Header: &etcdserverpb.ResponseHeader{Revision: 0}},
		{WatchId: 2, Canceled: true, Header: &etcdserverpb.ResponseHeader{Revision: 0}},
		{WatchId: -1, Header: &etcdserverpb.ResponseHeader{Revision: 4}},
	} {
		if err := p.Send(r); err != nil {
			t.Fatal(err)
		}
	}
	if want := []int64{1, 2, 12, 10, 13, 0, 0, 4}; !slices.Equal(s.got, want) {
		t.Errorf("sent %v, want %v", s.got, want)
	}
}

func TestAPanicIsTheErrorOfItsRequest(t *testing.T) {
	_, err := recoverUnary(t.Context(), nil, &grpc.UnaryServerInfo{FullMethod: "/test"}, func(context.Context, any) (any, error) { panic("fault") })
	if status.Code(err) != codes.Internal || !strings.Contains(err.Error(), "fault") {
		t.Errorf("error %v", err)
	}
}

// kine gives all watches the same events, and its server appends to what one gets.
func TestWatchesDoNotWriteIntoEachOthersEvents(t *testing.T) {
	event := func(revision int64) *server.Event {
		return &server.Event{KV: &server.KeyValue{Key: "a", ModRevision: revision}}
	}
	shared := append(make([]*server.Event, 0, 8), event(1), event(2))
	var got [2]server.EventBatch
	for i := range got {
		in, out := make(chan server.EventBatch, 1), make(chan server.EventBatch, 1)
		in <- server.EventBatch{CurrentRev: 2, Events: shared}
		close(in)
		if err := forward(t.Context(), 1, server.WatchResult{Eventc: in, Errorc: make(chan error)}, out); err != nil {
			t.Fatal(err)
		}
		got[i] = <-out
	}
	first := append(got[0].Events, event(3))
	second := append(got[1].Events, event(4))
	if len(first) != 3 || len(second) != 3 || first[2].KV.ModRevision != 3 {
		t.Errorf("the first watch has %d events, the last of revision %d", len(first), first[len(first)-1].KV.ModRevision)
	}
}
