package proxy

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/annex-api/annex/aggregator/internal/catalog"
)

// errHeaderTimeout ends an attempt after the time that the APIService allows.
var errHeaderTimeout = fmt.Errorf("the extension server sent no header of a response in time: %w", context.DeadlineExceeded)

// headerTimer ends an attempt after that time. It stands still while the client's body is
// waited for, or the request's turn, and then begins anew: neither is the endpoint's fault.
// Nil is that of an APIService which sets no time.
type headerTimer struct {
	limit time.Duration

	mu    sync.Mutex
	timer *time.Timer
	over  bool
}

func startHeaderTimer(a *catalog.APIService, cancel context.CancelCauseFunc) *headerTimer {
	limit := a.Settings.HeaderTimeout
	if limit <= 0 {
		return nil
	}
	return &headerTimer{limit: limit, timer: time.AfterFunc(limit, func() { cancel(errHeaderTimeout) })}
}

// pause has it stand still.
func (t *headerTimer) pause() {
	if t != nil {
		t.timer.Stop()
	}
}

// restart has it begin anew.
func (t *headerTimer) restart() {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.over { // else a body that goes on after the header of the answer would end that
		t.timer.Reset(t.limit)
	}
}

// end is called when there is a header, or the attempt has failed.
func (t *headerTimer) end() {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over = true
	t.timer.Stop()
}
