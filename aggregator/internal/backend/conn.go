package backend

import (
	"net"
	"sync"
	"sync/atomic"
)

// watchedConn tells when the far end ends the connection: an extension server
// that dies is noticed by its idle connections at once.
type watchedConn struct {
	net.Conn
	lost   func()
	once   sync.Once
	closed atomic.Bool // by this side
}

func (c *watchedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err != nil && !c.closed.Load() {
		c.once.Do(c.lost)
	}
	return n, err
}

func (c *watchedConn) Close() error {
	c.closed.Store(true)
	return c.Conn.Close()
}
