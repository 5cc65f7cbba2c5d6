package sqlbackend

import (
	"context"
	"errors"
	"testing"

	"github.com/k3s-io/kine/pkg/server"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

var (
	errBroken  = errors.New("the connection broke")
	errFull    = errors.New("full")
	errRefused = errors.New("refused")
)

// listing streams objects, and then an error.
type listing struct {
	server.Backend
	objects int
	err     error
}

func (l listing) ListStream(context.Context, string, string, int64, int64, bool) server.ListResult {
	kvs, errs := make(chan *server.KeyValue, l.objects), make(chan error, 1)
	for range l.objects {
		kvs <- &server.KeyValue{}
	}
	if l.err != nil {
		errs <- l.err
	}
	close(kvs)
	close(errs)
	return server.ListResult{CurrentRevision: 7, KVc: kvs, Errorc: errs}
}

func over(inner server.Backend) *backend {
	return &backend{Backend: inner, db: Database{
		Full:    func(err error) bool { return errors.Is(err, errFull) },
		Refused: func(err error) bool { return errors.Is(err, errRefused) },
	}}
}

// kine's own List gives what it had when the connection broke, for all there is.
func TestAListThatEndsEarlyIsAnError(t *testing.T) {
	if revision, kvs, err := over(listing{objects: 3}).List(t.Context(), "/", "0", 0, 0, false); err != nil || revision != 7 || len(kvs) != 3 {
		t.Errorf("a whole list: %d objects at %d, %v", len(kvs), revision, err)
	}
	_, kvs, err := over(listing{objects: 3, err: errBroken}).List(t.Context(), "/", "0", 0, 0, false)
	if status.Code(err) != codes.Unavailable || kvs != nil {
		t.Errorf("a list that broke: %d objects, %v", len(kvs), err)
	}
}

func TestErrorsAreThoseOfEtcd(t *testing.T) {
	b := over(nil)
	for name, c := range map[string]struct {
		err  error
		want func(error) bool
	}{
		"none":      {nil, func(err error) bool { return err == nil }},
		"full":      {errFull, func(err error) bool { return errors.Is(err, rpctypes.ErrGRPCNoSpace) }},
		"refused":   {errRefused, func(err error) bool { return errors.Is(err, errRefused) && status.Code(err) == codes.Unknown }},
		"broken":    {errBroken, func(err error) bool { return status.Code(err) == codes.Unavailable }},
		"cancelled": {context.Canceled, func(err error) bool { return errors.Is(err, context.Canceled) }},
		"compacted": {server.ErrCompacted, func(err error) bool { return errors.Is(err, server.ErrCompacted) }},
	} {
		if got := b.explain(c.err); !c.want(got) {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestAWriterThatGivesUpDoesNotWrite(t *testing.T) {
	b := over(nil)
	b.turn = make(chan struct{}, 1)
	b.turn <- struct{}{}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := b.write(ctx, func(context.Context) error {
		t.Error("it wrote")
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}
