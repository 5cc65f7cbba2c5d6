package backend

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// watchedConn tells when the far end ends the connection: an extension server
// that dies is noticed by its idle connections at once. It knows when the far
// end was heard of last.
type watchedConn struct {
	net.Conn
	lost   func()
	once   sync.Once
	closed atomic.Bool  // by this side
	heard  atomic.Int64 // since epoch, in nanoseconds
}

// epoch is what readings of the monotonic clock are kept relative to.
var epoch = time.Now()

func watch(c net.Conn, lost func()) *watchedConn {
	w := &watchedConn{Conn: c, lost: lost}
	w.heard.Store(int64(time.Since(epoch)))
	return w
}

func (c *watchedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.heard.Store(int64(time.Since(epoch)))
	}
	if err != nil && !c.closed.Load() {
		c.once.Do(c.lost)
	}
	return n, err
}

func (c *watchedConn) Close() error {
	c.closed.Store(true)
	return c.Conn.Close()
}

// silence is for how long nothing has come from the far end.
func (c *watchedConn) silence() time.Duration {
	return time.Since(epoch) - time.Duration(c.heard.Load())
}
