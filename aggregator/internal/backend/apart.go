package backend

import (
	"crypto/tls"
	"net"
	"sync"
	"time"
)

// farewell bounds how long closing waits for the far end to take TLS's
// good-bye.
const farewell = 250 * time.Millisecond

// The header of an HTTP/2 frame (RFC 9113, section 4.1).
const (
	frameHeader = 9 // bytes
	// typeHeaders with these flags is a whole request without a body.
	typeHeaders, endStream, endHeaders = 0x1, 0x1, 0x4
)

// maxQueued bounds the requests that wait to be written, in bytes: one TLS record.
const maxQueued = 16 << 10

// apartConn writes on a goroutine of its own. What writes is otherwise the
// goroutine that the HTTP/2 transport keeps for each stream: encryption would
// grow its stack beyond the 4 KiB that it needs for the rest of its life, and
// of many watches the stacks given back leave memory that nothing else fits in.
//
// Requests without a body are not waited for, and those that meet are written together.
// Where that fails the connection ends, as a write that fails would end it.
type apartConn struct {
	*tls.Conn
	writes  chan []byte
	written chan result
	once    sync.Once
	closed  chan struct{}

	mu     sync.Mutex
	queued []byte        // requests to be written before all else
	spare  []byte        // takes turns with queued; only run uses it
	come   chan struct{} // something is queued
}

type result struct {
	n   int
	err error
}

// writeApart returns a connection that is to be closed.
func writeApart(c *tls.Conn) *apartConn {
	a := &apartConn{
		Conn: c, writes: make(chan []byte), written: make(chan result), closed: make(chan struct{}), come: make(chan struct{}, 1),
	}
	go a.run()
	return a
}

func (a *apartConn) run() {
	for {
		select {
		case <-a.come:
			_ = a.flush() // the reader tells
		case p := <-a.writes:
			n, err := 0, a.flush()
			if err == nil {
				n, err = a.Conn.Write(p)
			}
			a.written <- result{n, err}
		case <-a.closed:
			return
		}
	}
}

// flush writes what is queued. An error ends the connection: whose requests these are
// learns of it by reading.
func (a *apartConn) flush() error {
	a.mu.Lock()
	queued := a.queued
	a.queued = a.spare[:0]
	a.mu.Unlock()
	a.spare = queued
	if len(queued) == 0 {
		return nil
	}
	_, err := a.Conn.Write(queued)
	if err != nil {
		_ = a.NetConn().Close()
	}
	return err
}

// Write implements net.Conn. There may be one at a time, as the transport does.
func (a *apartConn) Write(p []byte) (int, error) {
	if isRequest(p) && a.queue(p) {
		return len(p), nil
	}
	select {
	case a.writes <- p:
	case <-a.closed:
		return 0, net.ErrClosed
	}
	r := <-a.written // what was taken is answered
	return r.n, r.err
}

// isRequest says whether p is one frame that is a request without a body. Such
// requests are repeated where they may not have been received; others wait to
// know.
func isRequest(p []byte) bool {
	return len(p) > frameHeader && p[3] == typeHeaders && p[4]&(endStream|endHeaders) == endStream|endHeaders &&
		len(p) == frameHeader+int(p[0])<<16+int(p[1])<<8+int(p[2])
}

// queue leaves p to be written soon; false if there is no room.
func (a *apartConn) queue(p []byte) bool {
	select {
	case <-a.closed:
		return false
	default:
	}
	a.mu.Lock()
	room := len(a.queued)+len(p) <= maxQueued
	if room {
		a.queued = append(a.queued, p...)
	}
	a.mu.Unlock()
	if room {
		select {
		case a.come <- struct{}{}:
		default: // it is known
		}
	}
	return room
}

// Close implements net.Conn. A write under way ends.
func (a *apartConn) Close() error {
	a.once.Do(func() { close(a.closed) })
	timer := time.AfterFunc(farewell, func() { _ = a.NetConn().Close() })
	defer timer.Stop()
	return a.Conn.Close()
}
