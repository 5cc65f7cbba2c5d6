package controllers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Health tells whether controllers run. The zero value says that nothing is wrong.
type Health struct{ failed atomic.Pointer[error] }

// Err says why they do not run, or nil.
func (h *Health) Err() error {
	if err := h.failed.Load(); err != nil {
		return *err
	}
	return nil
}

func (h *Health) set(err error) {
	if err == nil {
		h.failed.Store(nil)
		return
	}
	err = fmt.Errorf("run controllers: %w", err)
	h.failed.Store(&err)
}

// ServeHTTP answers /livez as long as the process lives: a restart would not bring a lost
// lease or a missing right. /healthz and /readyz say what is wrong.
func (h *Health) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/livez":
	case "/healthz", "/readyz":
		if err := h.Err(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
	default:
		http.NotFound(w, r)
		return
	}
	_, _ = w.Write([]byte("ok\n")) // who asked may be gone
}

const (
	healthRequest = 10 * time.Second
	healthDrain   = time.Second
)

// serveHealth answers on a listener until it is ended.
func serveHealth(l net.Listener, h *Health) (end func()) {
	server := &http.Server{Handler: h, ReadTimeout: healthRequest, WriteTimeout: healthRequest, IdleTimeout: time.Minute, MaxHeaderBytes: 8 << 10}
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			h.set(fmt.Errorf("serve their health: %w", err))
		}
	})
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), healthDrain)
		defer cancel()
		if server.Shutdown(ctx) != nil {
			_ = server.Close()
		}
		serving.Wait()
	}
}
