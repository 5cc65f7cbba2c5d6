package sqlbackend

import (
	"context"
	"errors"
	"io"
	"os"
	"testing"

	"github.com/k3s-io/kine/pkg/server"
	"github.com/sirupsen/logrus"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

var (
	errBroken  = errors.New("the connection broke")
	errFull    = errors.New("full")
	errRefused = errors.New("refused")
)

func TestMain(m *testing.M) {
	logrus.SetOutput(io.Discard)
	os.Exit(m.Run())
}

func over(inner server.Backend) *backend {
	return &backend{Backend: inner, db: Database{
		Full:    func(err error) bool { return errors.Is(err, errFull) },
		Refused: func(err error) bool { return errors.Is(err, errRefused) },
	}}
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
