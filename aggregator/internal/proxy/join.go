package proxy

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"sync/atomic"
	"time"
)

// lingerTimeout bounds how long the rest of a joined connection may make no
// progress once one of its ends has ended.
const lingerTimeout = 5 * time.Second

// side is one of two connections that are joined: what reads from it comes
// from in, which may hold bytes that were read from the connection before.
type side struct {
	net.Conn
	in        io.Reader
	lingering atomic.Bool
}

// newSide continues to read where a buffered reader of the connection stopped.
func newSide(conn net.Conn, buffered *bufio.Reader) *side {
	// No more than what is buffered: nothing is read for this.
	early, _ := buffered.Peek(buffered.Buffered())
	return &side{Conn: conn, in: io.MultiReader(bytes.NewReader(early), conn)}
}

// Read implements io.Reader.
func (s *side) Read(p []byte) (int, error) {
	if s.lingering.Load() {
		_ = s.SetReadDeadline(time.Now().Add(lingerTimeout))
	}
	return s.in.Read(p)
}

// Write implements io.Writer.
func (s *side) Write(p []byte) (int, error) {
	if s.lingering.Load() {
		_ = s.SetWriteDeadline(time.Now().Add(lingerTimeout))
	}
	return s.Conn.Write(p)
}

// linger bounds each read and write from now on, those under way included.
func (s *side) linger() {
	s.lingering.Store(true)
	_ = s.SetDeadline(time.Now().Add(lingerTimeout))
}

// closeWrite says that nothing more comes, and goes on reading. TLS says it in
// a record only: the connection below says it too.
func (s *side) closeWrite() {
	for conn := s.Conn; conn != nil; {
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

// join copies both ways until both ends have ended, and closes both. When one
// way ends, what the other still carries arrives: a server that answers and
// closes while its client still writes would otherwise lose its answer. The
// error is that of the way that ended first.
func join(client, backend *side) error {
	type end struct {
		to  *side
		err error
	}
	ended := make(chan end, 2)
	pump := func(to, from *side) { ended <- end{to, copyAll(to, from)} }
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
