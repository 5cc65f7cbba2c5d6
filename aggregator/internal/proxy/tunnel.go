package proxy

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"sync/atomic"
	"time"
)

// lingerTimeout bounds how long the rest of a tunnel may make no progress once
// one of its ends has ended.
const lingerTimeout = 5 * time.Second

// end is one of the two connections of a tunnel. What is read from it comes from
// in, which may hold bytes that were read from the connection before.
type end struct {
	net.Conn
	in        io.Reader
	lingering atomic.Bool
}

// newEnd continues to read where a buffered reader of the connection stopped.
func newEnd(conn net.Conn, buffered *bufio.Reader) *end {
	// No more than what is buffered: nothing is read for this.
	early, _ := buffered.Peek(buffered.Buffered())
	return &end{Conn: conn, in: io.MultiReader(bytes.NewReader(early), conn)}
}

// Read implements io.Reader.
func (e *end) Read(p []byte) (int, error) {
	if e.lingering.Load() {
		_ = e.SetReadDeadline(time.Now().Add(lingerTimeout))
	}
	return e.in.Read(p)
}

// Write implements io.Writer.
func (e *end) Write(p []byte) (int, error) {
	if e.lingering.Load() {
		_ = e.SetWriteDeadline(time.Now().Add(lingerTimeout))
	}
	return e.Conn.Write(p)
}

// linger bounds each read and write from now on, those under way included.
func (e *end) linger() {
	e.lingering.Store(true)
	_ = e.SetDeadline(time.Now().Add(lingerTimeout))
}

// closeWrite says that nothing more comes, and goes on reading. TLS says it in
// a record only: the connection below says it too.
func (e *end) closeWrite() {
	for conn := e.Conn; conn != nil; {
		if c, ok := conn.(interface{ CloseWrite() error }); ok {
			_ = c.CloseWrite()
		}
		below, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			return
		}
		conn = below.NetConn()
	}
}

// tunnel copies both ways until both ends have ended, and closes both. When one
// direction ends, what the other still carries arrives: a server that answers and
// closes while its client still writes would otherwise lose its answer. The
// error is that of the direction that ended first.
func tunnel(client, backend *end) error {
	type direction struct {
		to  *end
		err error
	}
	ended := make(chan direction, 2)
	pump := func(to, from *end) { ended <- direction{to, copyAll(to, from)} }
	go pump(backend, client)
	go pump(client, backend)
	first := <-ended
	client.linger()
	backend.linger()
	first.to.closeWrite()
	second := <-ended
	second.to.closeWrite()
	_ = backend.Close()
	// To close a connection with unread bytes resets it, and what is on the way
	// to the client would be lost.
	client.lingering.Store(false)
	_ = client.SetReadDeadline(time.Now().Add(lingerTimeout))
	_ = copyAll(io.Discard, client)
	_ = client.Close()
	return first.err
}
