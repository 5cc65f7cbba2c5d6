package kine

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"

	"github.com/k3s-io/kine/pkg/server"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/klog/v2"
)

// service answers with kine's server once the database is open, and with Unavailable before. Requests
// that an API server never makes are not implemented.
type service struct {
	etcdserverpb.UnimplementedKVServer
	etcdserverpb.UnimplementedWatchServer
	etcdserverpb.UnimplementedLeaseServer
	etcdserverpb.UnimplementedMaintenanceServer

	name        string
	state       atomic.Pointer[state]
	connections connections
}

// state is either a bridge, or why there is none yet.
type state struct {
	bridge *bridge
	err    error
}

type bridge struct {
	*server.KVServerBridge
	backend server.Backend
}

func (s *service) register(g *grpc.Server) {
	etcdserverpb.RegisterKVServer(g, s)
	etcdserverpb.RegisterWatchServer(g, s)
	etcdserverpb.RegisterLeaseServer(g, s)
	etcdserverpb.RegisterMaintenanceServer(g, s)
}

func (s *service) opening(err error) { s.state.Store(&state{err: err}) }
func (s *service) opened(b *bridge)  { s.state.Store(&state{bridge: b}) }

func (s *service) bridge() (*bridge, error) {
	now := s.state.Load()
	if now.err != nil {
		return nil, status.Errorf(codes.Unavailable, "%s is not open yet: %v", s.name, now.err)
	}
	return now.bridge, nil
}

// check asks the database.
func (s *service) check(ctx context.Context) error {
	now := s.state.Load()
	if now.err != nil {
		return fmt.Errorf("it cannot be opened: %w", now.err)
	}
	if checked, ok := now.bridge.backend.(interface{ Check(context.Context) error }); ok {
		return checked.Check(ctx)
	}
	_, err := now.bridge.backend.CurrentRevision(ctx)
	return err
}

func (s *service) Range(ctx context.Context, r *etcdserverpb.RangeRequest) (*etcdserverpb.RangeResponse, error) {
	b, err := s.bridge()
	if err != nil {
		return nil, err
	}
	return b.Range(ctx, r)
}

// RangeStream sends the answer to Range as one piece. kine's own stream ends a page early
// and without saying so where the page's size is that of its batches, and its revision may be newer than
// its objects.
func (s *service) RangeStream(r *etcdserverpb.RangeRequest, stream etcdserverpb.KV_RangeStreamServer) error {
	answer, err := s.Range(stream.Context(), r)
	if err != nil {
		return err
	}
	return stream.Send(&etcdserverpb.RangeStreamResponse{RangeResponse: answer})
}

func (s *service) Put(ctx context.Context, r *etcdserverpb.PutRequest) (*etcdserverpb.PutResponse, error) {
	b, err := s.bridge()
	if err != nil {
		return nil, err
	}
	return b.Put(ctx, r)
}

func (s *service) Txn(ctx context.Context, r *etcdserverpb.TxnRequest) (*etcdserverpb.TxnResponse, error) {
	b, err := s.bridge()
	if err != nil {
		return nil, err
	}
	return b.Txn(ctx, r)
}

// Compact has nothing left to do where another server did it first.
func (s *service) Compact(ctx context.Context, r *etcdserverpb.CompactionRequest) (*etcdserverpb.CompactionResponse, error) {
	b, err := s.bridge()
	if err != nil {
		return nil, err
	}
	return b.Compact(ctx, r)
}

func (s *service) Watch(stream etcdserverpb.Watch_WatchServer) error {
	b, err := s.bridge()
	if err != nil {
		return err
	}
	return b.Watch(&progressing{Watch_WatchServer: stream, sent: map[int64]int64{}})
}

// LeaseGrant gives a lease that objects name; its duration is its number.
func (s *service) LeaseGrant(ctx context.Context, r *etcdserverpb.LeaseGrantRequest) (*etcdserverpb.LeaseGrantResponse, error) {
	b, err := s.bridge()
	if err != nil {
		return nil, err
	}
	return b.LeaseGrant(ctx, r)
}

func (s *service) Status(ctx context.Context, r *etcdserverpb.StatusRequest) (*etcdserverpb.StatusResponse, error) {
	b, err := s.bridge()
	if err != nil {
		return nil, err
	}
	return b.Status(ctx, r)
}

// A panic below a request is that request's error: the process is somebody else's.

func recoverUnary(ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (_ any, err error) {
	defer recovered(info.FullMethod, &err)
	return handle(ctx, request)
}

func recoverStream(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) (err error) {
	defer recovered(info.FullMethod, &err)
	return handle(server, stream)
}

func recovered(method string, err *error) {
	if p := recover(); p != nil {
		klog.ErrorS(errors.New("panic in kine"), "Request to storage failed", "method", method, "panic", p, "stack", string(debug.Stack()))
		*err = status.Errorf(codes.Internal, "panic in %s: %v", method, p)
	}
}
