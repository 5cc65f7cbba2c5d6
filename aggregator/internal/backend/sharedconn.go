package backend

//lint:file-ignore SA1019 Connections of net/http have no Ping, and its transport pings idle ones too.

import (
	"context"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"

	"github.com/annex-api/annex/aggregator/internal/pace"
)

const (
	// A connection with requests under way is asked for a sign of life when it
	// has been silent for pingAfter, or up to an eighth less, and given up
	// pingTimeout later. One that carries none is left alone: its next request asks.
	pingAfter   = pace.Step
	pingTimeout = 2 * time.Second
	// stateLimit bounds the wait for a connection's state, which is not to be had
	// while a write to a far end that reads nothing is stuck.
	stateLimit = 100 * time.Millisecond
)

// sharedConn is one HTTP/2 connection.
type sharedConn struct {
	h2    *http2.ClientConn
	raw   *watchedConn
	timer *time.Timer  // runs check
	armed atomic.Bool  // check is to come
	asked atomic.Int64 // when the connection was asked for its state, since epoch; 0 while it is not
	fresh atomic.Bool  // not yet used by the request that it was dialled for
}

func newSharedConn(h2 *http2.ClientConn, raw *watchedConn) *sharedConn {
	c := &sharedConn{h2: h2, raw: raw}
	c.fresh.Store(true)
	c.armed.Store(true)
	c.timer = time.AfterFunc(pingAfter, c.check)
	return c
}

// hasRoom says whether a request may be sent. Between the end of a connection and the
// moment when HTTP/2 takes note of it, none is.
func (c *sharedConn) hasRoom() bool { return !c.raw.farEnded.Load() && c.h2.CanTakeNewRequest() }

// retire closes a connection that is in the pool no more: one that is closed before
// its first request would take that one, and fail it.
func (c *sharedConn) retire() {
	c.h2.SetDoNotReuse()
	if !c.busy() {
		_ = c.h2.Close()
	}
}

// arm has the connection checked after a while, or a little sooner, if it is not
// going to be.
func (c *sharedConn) arm(after time.Duration) {
	if c.armed.CompareAndSwap(false, true) {
		c.timer.Reset(pace.Shorten(after))
	}
}

// check asks a silent connection for a sign of life, and closes it when none
// comes. It is repeated for as long as there are requests under way.
func (c *sharedConn) check() {
	c.armed.Store(false) // A request that comes from now on arms it again.
	if asked := c.asked.Load(); asked != 0 && time.Since(epoch)-time.Duration(asked) > pingAfter+pingTimeout {
		// A write is stuck since then. It does not matter what the far end says: it
		// reads nothing.
		c.giveUp()
		return
	}
	if !c.busy() {
		return
	}
	if silence := c.raw.silence(); silence < pingAfter-pingAfter/8 {
		c.arm(pingAfter - silence)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), pingTimeout)
	defer cancel()
	if err := c.h2.Ping(ctx); err != nil {
		c.giveUp()
		return
	}
	c.arm(pingAfter)
}

// giveUp closes a connection whose far end is silent.
func (c *sharedConn) giveUp() {
	c.raw.farEnded.Store(true) // before its requests fail, and ask
	_ = c.h2.Close()
}

// busy says whether requests are under way, or that cannot be told. One question
// is put at a time: a connection may take long to answer it, or until its end.
func (c *sharedConn) busy() bool {
	if !c.asked.CompareAndSwap(0, int64(time.Since(epoch))) {
		return true
	}
	known := make(chan http2.ClientConnState, 1)
	go func() { // ends with the connection at the latest
		state := c.h2.State()
		c.asked.Store(0)
		known <- state
	}()
	timer := time.NewTimer(stateLimit)
	defer timer.Stop()
	select {
	case state := <-known:
		return !state.Closed && state.StreamsActive+state.StreamsReserved+state.StreamsPending > 0
	case <-timer.C:
		return true
	}
}
