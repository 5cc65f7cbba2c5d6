package proxy

import (
	"errors"
	"io"
	"net/http"
	"sync"
)

// maxReplay is how much of a request's body is kept, in bytes, so that it can
// be sent again.
const maxReplay = 64 << 10

var (
	errBodyClosed = errors.New("the attempt has ended that this body belongs to")
	errBodyGone   = errors.New("the beginning of the body is no longer in memory")
)

// replayBody reads a client's body once, for as many attempts as there are, and keeps
// its beginning for the later ones. It does not close the client's body: that is the
// server's to do.
type replayBody struct {
	source chan io.Reader // holds the client's body while no attempt reads from it

	mu    sync.Mutex
	kept  []byte // all that was read, or nothing if that is more than maxReplay
	total int    // how much was read
}

// newReplayBody returns nil for a request without a body.
func newReplayBody(r *http.Request) *replayBody {
	if r.ContentLength == 0 || r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	b := &replayBody{source: make(chan io.Reader, 1)}
	b.source <- r.Body
	return b
}

// whole says whether another attempt can be given the body from its beginning.
func (b *replayBody) whole() bool {
	if b == nil {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.total <= maxReplay
}

// open returns the body from its beginning, for one attempt.
func (b *replayBody) open() io.ReadCloser { return &attemptBody{body: b} }

// attemptBody is the body of one attempt. One that was given up may still read, or
// wait for the client, while the next one has begun.
type attemptBody struct {
	body   *replayBody
	at     int  // how much this attempt has read
	closed bool // both are guarded by the replayBody's mu
}

// Read implements io.Reader.
func (a *attemptBody) Read(p []byte) (int, error) {
	if n, err := a.fromMemory(p); n > 0 || err != nil || len(p) == 0 {
		return n, err
	}
	source := <-a.body.source
	defer func() { a.body.source <- source }()
	if n, err := a.fromMemory(p); n > 0 || err != nil { // another attempt has read meanwhile
		return n, err
	}
	n, err := source.Read(p)
	a.keep(p[:n])
	return n, err
}

// fromMemory reads what was read from the client before. Nothing and no error mean
// that the client is to be asked.
func (a *attemptBody) fromMemory(p []byte) (int, error) {
	a.body.mu.Lock()
	defer a.body.mu.Unlock()
	switch {
	case a.closed:
		return 0, errBodyClosed
	case a.at == a.body.total:
		return 0, nil
	case a.body.total > maxReplay:
		return 0, errBodyGone
	}
	n := copy(p, a.body.kept[a.at:])
	a.at += n
	return n, nil
}

// keep notes what this attempt has read from the client.
func (a *attemptBody) keep(data []byte) {
	a.body.mu.Lock()
	defer a.body.mu.Unlock()
	a.body.total += len(data)
	a.at = a.body.total
	if a.body.total > maxReplay {
		a.body.kept = nil
		return
	}
	a.body.kept = append(a.body.kept, data...)
}

// Close implements io.Closer: the attempt reads no more.
func (a *attemptBody) Close() error {
	a.body.mu.Lock()
	defer a.body.mu.Unlock()
	a.closed = true
	return nil
}
