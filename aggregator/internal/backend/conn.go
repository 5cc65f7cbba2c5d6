package backend

import (
	"crypto/tls"
	"net"
	"sync/atomic"
	"time"
)

// watchedConn tells when the far end ends the connection: an extension server
// that dies is noticed by its idle connections at once. It also knows when
// something was read last.
type watchedConn struct {
	net.Conn
	lost     func()
	told     atomic.Bool  // of the end
	closed   atomic.Bool  // by this side
	farEnded atomic.Bool  // by the far end, or given up because that is silent
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
	if err != nil {
		c.ended()
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
	return ok && watched.farEnded.Load()
}

// ended says that nothing more can be read, and tells of it once, unless it was this
// side that ended the connection.
func (c *watchedConn) ended() {
	if c.closed.Load() {
		return
	}
	c.farEnded.Store(true)
	if c.told.CompareAndSwap(false, true) {
		c.lost()
	}
}

// leaving says that the far end takes no more requests, and tells of it unless the end
// has come already. That will be told too: until then the far end may go on elsewhere.
func (c *watchedConn) leaving() {
	if !c.closed.Load() && !c.told.Load() {
		c.lost()
	}
}

// silence is for how long nothing has come from the far end.
func (c *watchedConn) silence() time.Duration {
	return time.Since(epoch) - time.Duration(c.lastRead.Load())
}

// closeTimeout bounds how long TLS may take to say that it closes.
const closeTimeout = 250 * time.Millisecond

// securedConn is TLS over a watched connection. A far end that ends it properly says so
// in a record: nobody reads from the connection below after that, so its end would show
// to nobody.
type securedConn struct {
	*tls.Conn
	raw   *watchedConn
	state *tls.ConnectionState
}

func newSecuredConn(c *tls.Conn) securedConn {
	state := c.ConnectionState()
	return securedConn{c, c.NetConn().(*watchedConn), &state}
}

// Read implements net.Conn.
func (c securedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err != nil {
		c.raw.ended()
	}
	return n, err
}

// Close implements net.Conn.
func (c securedConn) Close() error {
	c.raw.closed.Store(true)
	force := time.AfterFunc(closeTimeout, func() { _ = c.raw.Close() })
	defer force.Stop()
	return c.Conn.Close()
}
