package backend

//lint:file-ignore SA1019 Connections of net/http have no Ping, and its transport pings idle ones too.

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"slices"
	"sync"

	"golang.org/x/net/http2"
)

// RecordData is how much of a body, in bytes, fits into one TLS record with the header
// of its HTTP/2 frame. A frame of the usual 16 KiB takes two records, the second of nine
// bytes, and each is written by a system call of its own.
const RecordData = 16<<10 - 9

// MaxFrame bounds the data of a frame from an extension server, in bytes: four pieces
// that each make one TLS record on the way to the client. Fewer and larger frames mean
// fewer wake-ups and window updates for a long body; a connection that has had one keeps
// a buffer of that size.
const MaxFrame = 4 * RecordData

// connPool keeps the HTTP/2 connections of one transport. It does what the pool of
// http2.Transport does, but for the pings: that one sends them over idle connections
// too, which costs more than all else that a quiet server does.
type connPool struct {
	h2 *http2.Transport

	mu    sync.Mutex
	conns map[string][]*sharedConn // by host:port
}

// usePool makes t speak HTTP/2 where the far end does, over connections that
// dial makes, which must be watched ones.
func usePool(t *http.Transport, countError func(kind string)) (*connPool, error) {
	h2, err := http2.ConfigureTransports(t)
	if err != nil {
		return nil, fmt.Errorf("configuring HTTP/2: %w", err)
	}
	p := &connPool{h2: h2, conns: map[string][]*sharedConn{}}
	h2.CountError = countError
	h2.MaxReadFrameSize = MaxFrame
	h2.ConnPool = p
	// No header goes into the encoder's table. Those that differ with each request
	// would drive the others out of it, for which a stream's goroutine needs a larger
	// stack, and keeps it: 6 KiB for each watch.
	h2.MaxEncoderHeaderTableSize = 1
	t.TLSNextProto[http2.NextProtoTLS] = p.take
	return p, nil
}

// refusedConn stands for a connection that cannot be used.
type refusedConn struct{ err error }

func (r refusedConn) RoundTripErr() error                             { return r.err }
func (r refusedConn) RoundTrip(*http.Request) (*http.Response, error) { return nil, r.err }

// take is given a new connection once its handshake is done. Several requests
// may dial at a time; one connection is enough for them.
func (p *connPool) take(address string, c *tls.Conn) http.RoundTripper {
	if p.hasRoom(address) {
		go c.Close() // it says good-bye, which may take a moment
		return p.h2
	}
	secured := newSecuredConn(c)
	cc, err := p.h2.NewClientConn(secured)
	if err != nil {
		go secured.Close()
		return refusedConn{fmt.Errorf("opening an HTTP/2 connection to %s: %w", address, err)}
	}
	n := newSharedConn(cc, secured.raw)
	p.mu.Lock()
	surplus := slices.ContainsFunc(p.conns[address], (*sharedConn).hasRoom)
	if !surplus {
		p.conns[address] = append(p.conns[address], n)
	}
	p.mu.Unlock()
	if surplus {
		n.timer.Stop()
		go cc.Close()
	}
	return p.h2
}

func (p *connPool) hasRoom(address string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.ContainsFunc(p.conns[address], (*sharedConn).hasRoom)
}

// GetClientConn implements http2.ClientConnPool. It never dials: that is up to
// the transport for HTTP/1.1, which learns what the far end speaks.
func (p *connPool) GetClientConn(r *http.Request, address string) (*http2.ClientConn, error) {
	n := p.reserve(address)
	if n == nil {
		return nil, http2.ErrNoCachedConn
	}
	if !n.fresh.Swap(false) {
		if trace := httptrace.ContextClientTrace(r.Context()); trace != nil && trace.GetConn != nil {
			trace.GetConn(address)
		}
	}
	n.arm(pingAfter)
	return n.h2, nil
}

func (p *connPool) reserve(address string) *sharedConn {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, n := range p.conns[address] {
		if !n.raw.farEnded.Load() && n.h2.ReserveNewRequest() {
			return n
		}
	}
	return nil
}

// MarkDead implements http2.ClientConnPool. It is called when the far end says that it
// takes no more requests, and when the connection has ended, before requests under way
// fail for its sake. TLS may end one that goes on below.
func (p *connPool) MarkDead(cc *http2.ClientConn) {
	if n := p.remove(cc); n != nil && !n.raw.closed.Load() {
		n.raw.farEnded.Store(true)
		n.raw.leaving()
	}
}

// remove takes a connection out of the pool; it returns nil where it is not in it.
func (p *connPool) remove(cc *http2.ClientConn) *sharedConn {
	p.mu.Lock()
	defer p.mu.Unlock()
	for address, list := range p.conns {
		i := slices.IndexFunc(list, func(n *sharedConn) bool { return n.h2 == cc })
		if i < 0 {
			continue
		}
		n := list[i] // whose requests go on, and are looked after: check ends by itself
		if list = slices.Delete(list, i, i+1); len(list) > 0 {
			p.conns[address] = list
		} else {
			delete(p.conns, address)
		}
		return n
	}
	return nil
}

// retire closes the connections that carry no request, and lets the others
// take no more: they end with their last one.
func (p *connPool) retire() {
	p.mu.Lock()
	all := p.conns
	p.conns = map[string][]*sharedConn{}
	p.mu.Unlock()
	for _, list := range all {
		for _, n := range list {
			n.retire()
		}
	}
}

// closeIdle closes the connections to one address that carry no request. The
// others stay: pings find out about them.
func (p *connPool) closeIdle(address string) {
	p.mu.Lock()
	list := slices.Clone(p.conns[address])
	p.mu.Unlock()
	for _, n := range list {
		if n.busy() {
			continue
		}
		p.remove(n.h2)
		n.retire() // ends with a request that came meanwhile
	}
}
