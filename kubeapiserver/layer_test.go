package kubeapiserver

import (
	"context"
	"errors"
	"testing"
)

// A layer that cannot go on ends the server, which says why.
func TestAFailedLayerEndsTheServer(t *testing.T) {
	broken := errors.New("the source is broken")
	l := &layer{failed: make(chan error, 1), run: func(context.Context) error { return broken }}
	shutDown := false
	p := PreparedServer{layer: l, run: func(ctx context.Context) error {
		l.start(ctx)
		<-ctx.Done()
		shutDown = true
		return nil
	}}
	err := p.Run(t.Context())
	if !shutDown || !errors.Is(err, broken) || err.Error() != "the aggregation layer stopped: the source is broken" {
		t.Errorf("shut down: %v, error %v", shutDown, err)
	}
}

// A layer that ends with its server has not failed, and is waited for.
func TestALayerEndsWithItsServer(t *testing.T) {
	ended := false
	l := &layer{failed: make(chan error, 1), run: func(ctx context.Context) error {
		<-ctx.Done()
		ended = true
		return ctx.Err()
	}}
	ctx, cancel := context.WithCancel(t.Context())
	broken := errors.New("the listener is broken")
	p := PreparedServer{layer: l, run: func(ctx context.Context) error {
		l.start(ctx)
		cancel()
		<-ctx.Done()
		return broken
	}}
	if err := p.Run(ctx); err == nil || err.Error() != broken.Error() || !ended {
		t.Errorf("error %v; the layer ended: %v", err, ended)
	}
}
