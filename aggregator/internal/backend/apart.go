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

// apartConn writes on a goroutine of its own. What writes is otherwise the
// goroutine that the HTTP/2 transport keeps for each stream: encryption would
// grow its stack beyond the 4 KiB that it needs for the rest of its life, and
// of many watches the stacks given back leave memory that nothing else fits in.
type apartConn struct {
	*tls.Conn
	writes  chan []byte
	written chan result
	once    sync.Once
	closed  chan struct{}
}

type result struct {
	n   int
	err error
}

// writeApart returns a connection that is to be closed.
func writeApart(c *tls.Conn) *apartConn {
	a := &apartConn{Conn: c, writes: make(chan []byte), written: make(chan result), closed: make(chan struct{})}
	go a.run()
	return a
}

func (a *apartConn) run() {
	for {
		select {
		case p := <-a.writes:
			n, err := a.Conn.Write(p)
			a.written <- result{n, err}
		case <-a.closed:
			return
		}
	}
}

// Write implements net.Conn. There may be one at a time, as the transport does.
func (a *apartConn) Write(p []byte) (int, error) {
	select {
	case a.writes <- p:
	case <-a.closed:
		return 0, net.ErrClosed
	}
	r := <-a.written // what was taken is answered
	return r.n, r.err
}

// Close implements net.Conn. A write under way ends.
func (a *apartConn) Close() error {
	a.once.Do(func() { close(a.closed) })
	timer := time.AfterFunc(farewell, func() { _ = a.NetConn().Close() })
	defer timer.Stop()
	return a.Conn.Close()
}
