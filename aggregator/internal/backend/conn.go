package backend

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// watchedConn tells when the far end ends the connection: an extension server
// that dies is noticed by its idle connections at once. It also knows when
// something was read last.
type watchedConn struct {
	net.Conn
	lost     func()
	once     sync.Once
	closed   atomic.Bool  // by this side
	ended    atomic.Bool  // by the far end, or given up because that is silent
	lastRead atomic.Int64 // since epoch, in nanoseconds
}

// epoch is what readings of the monotonic clock are kept relative to.
var epoch = time.Now()

func newWatchedConn(c net.Conn, lost func()) *watchedConn {
	w := &watchedConn{Conn: c, lost: lost}
	w.lastRead.Store(int64(time.Since(epoch)))
	return w
}

func (c *watchedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.lastRead.Store(int64(time.Since(epoch)))
	}
	if err != nil && !c.closed.Load() {
		c.ended.Store(true)
		c.once.Do(c.lost)
	}
	return n, err
}

func (c *watchedConn) Close() error {
	c.closed.Store(true)
	return c.Conn.Close()
}

// ConnectionEnded says whether the far end of a connection to an extension server has
// ended it, or was found to be silent for too long.
func ConnectionEnded(conn net.Conn) bool {
	secured, ok := conn.(interface{ NetConn() net.Conn })
	if !ok {
		return false
	}
	watched, ok := secured.NetConn().(*watchedConn)
	return ok && watched.ended.Load()
}

// silence is for how long nothing has come from the far end.
func (c *watchedConn) silence() time.Duration {
	return time.Since(epoch) - time.Duration(c.lastRead.Load())
}
