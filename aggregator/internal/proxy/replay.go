package proxy

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"
)

// maxReplay is how much of a request's body is kept, in bytes, so that it can
// be sent again.
const maxReplay = 64 << 10

// readAheadSize is the first buffer for a body of unknown length, in bytes.
const readAheadSize = 4 << 10

// bodyGrace is how long a client that has left is waited for to see whether it broke off
// in the middle of its body, and one whose time is over to see whether it goes on with it.
const bodyGrace = 100 * time.Millisecond

var (
	errBodyClosed = errors.New("the attempt has ended that this body belongs to")
	errBodyGone   = errors.New("the beginning of the body is no longer in memory")
)

// replayBody reads a client's body once, for as many attempts as there are, and keeps
// its beginning for the later ones. The client's body is the server's to close, but for one
// over HTTP/2 that nobody will read any more, see endWith.
type replayBody struct {
	source chan io.Reader // holds the client's body while nobody reads from it
	length int64          // what the client says; below zero where it does not
	// atEnd is called before an attempt gets the end of the body. Its error takes the
	// place of the end. It is nil, or set before the first attempt.
	atEnd func() error

	mu    sync.Mutex
	kept  []byte // all that was read, or nothing if that is more than maxReplay
	total int    // how much was read
	ended bool   // that is all
	late  bool   // no more is read ahead: the attempts read what is missing
	over  bool   // nothing more is read: the request has no more time
	err   error  // why no more can be read, but for the end
}

// newReplayBody returns nil for a request without a body.
func newReplayBody(r *http.Request) *replayBody {
	if r.ContentLength == 0 || r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	b := &replayBody{source: make(chan io.Reader, 1), length: r.ContentLength}
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

// arrive begins to read the body, as far as it may be kept, and says whether it
// arrives as a whole in time. Attempts go on with what is missing.
func (b *replayBody) arrive(ctx context.Context, timeout time.Duration) bool {
	read := make(chan struct{})
	go func() { // no longer than the client's body, which the server ends
		b.readAhead()
		close(read)
	}()
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-read:
	case <-timer.C:
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.late = true
	return b.ended
}

func (b *replayBody) readAhead() {
	source := <-b.source
	defer func() { b.source <- source }()
	for {
		free := b.free()
		if len(free) == 0 {
			return
		}
		n, err := source.Read(free)
		b.keep(free[:n], err)
		if err != nil {
			return
		}
	}
}

// free is room for more of the body, behind what is kept; none where no more is to
// be read ahead. Only who holds the source may write there.
func (b *replayBody) free() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended || b.late || b.total >= maxReplay {
		return nil
	}
	if b.kept == nil {
		size := int64(readAheadSize)
		if b.length > 0 {
			size = min(b.length, maxReplay)
		}
		b.kept = make([]byte, 0, size)
	}
	b.kept = slices.Grow(b.kept, 1)
	return b.kept[len(b.kept):min(cap(b.kept), maxReplay)]
}

// keep takes note of what was read from the client. It returns how much that is in
// all.
func (b *replayBody) keep(data []byte, err error) (total int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil && err != io.EOF && !b.over {
		b.err = err
	}
	b.total += len(data)
	b.ended = err == io.EOF || int64(b.total) == b.length
	if b.total > maxReplay {
		b.kept = nil
	} else {
		b.kept = append(b.kept, data...)
	}
	return b.total
}

// broken is why the client's body could not be read as a whole; nil where it could, or
// was not. A client that has left may be found to have done so in the middle of it.
func (b *replayBody) broken(left bool) error {
	if b == nil {
		return nil
	}
	if left {
		timer := time.NewTimer(bodyGrace)
		defer timer.Stop()
		select {
		case source := <-b.source: // nobody reads any more
			b.source <- source
		case <-timer.C:
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

// endWith has nobody read the client's body any more once ctx has ended. It returns what
// is called in the place of release, which gives the request's place up: not before that. A
// client that has stopped in the middle of its body would keep whoever reads: the attempt,
// which goes on at the extension server until then, and the server, which could not write
// an answer.
func (b *replayBody) endWith(ctx context.Context, w http.ResponseWriter, r *http.Request, release func()) func() {
	if b == nil || b.hasEnded() {
		return release
	}
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		b.interrupt(w, r)
	})
	return func() {
		if !stop() {
			<-done
		} else if !b.hasEnded() { // answered early: nobody needs the rest
			b.endReading()
			if r.ProtoMajor > 1 {
				_ = r.Body.Close()
			}
		}
		release()
	}
}

// interrupt ends the reading of the client's body. It waits a little for a client that
// goes on with it, or has broken it off: that is to be known, and a connection whose reads
// were interrupted takes no more requests.
func (b *replayBody) interrupt(w http.ResponseWriter, r *http.Request) {
	timer := time.NewTimer(bodyGrace)
	defer timer.Stop()
	select {
	case source := <-b.source: // nobody reads
		b.endReading()
		b.source <- source
	case <-timer.C:
		b.endReading()
	}
	if b.hasEnded() {
		return
	}
	if r.ProtoMajor == 1 { // to close the body would wait for its reader
		_ = http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0))
		return
	}
	_ = r.Body.Close() // and not by w, which is nobody's once a filter has answered
}

func (b *replayBody) endReading() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.over = true
}

func (b *replayBody) hasEnded() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ended
}

// allowEarlyAnswer has the answer to r be written though its body has not ended. Before it
// writes one, a server of HTTP/1.x waits for whoever reads the body and reads the rest,
// unless the connection ends with the answer.
func (b *replayBody) allowEarlyAnswer(w http.ResponseWriter, r *http.Request) {
	if b != nil && r.ProtoMajor == 1 && !b.hasEnded() {
		w.Header().Set("Connection", "close")
	}
}

// open returns the body from its beginning, for one attempt, and with its timer.
func (b *replayBody) open(timer *headerTimer) io.ReadCloser {
	return &attemptBody{body: b, timer: timer}
}

// attemptBody is the body of one attempt. One that was given up may still read, or
// wait for the client, while the next one has begun.
type attemptBody struct {
	body   *replayBody
	timer  *headerTimer
	at     int  // how much this attempt has read
	closed bool // both are guarded by the replayBody's mu
}

// Read implements io.Reader.
func (a *attemptBody) Read(p []byte) (int, error) {
	a.timer.pause()
	defer a.timer.restart()
	n, err := a.read(p)
	if a.body.atEnd != nil && a.complete() {
		if err := a.body.atEnd(); err != nil {
			return 0, err
		}
	}
	return n, err
}

// complete says whether the attempt has all of the body.
func (a *attemptBody) complete() bool {
	a.body.mu.Lock()
	defer a.body.mu.Unlock()
	return a.body.ended && a.at == a.body.total
}

func (a *attemptBody) read(p []byte) (int, error) {
	if n, err := a.fromMemory(p); n > 0 || err != nil || len(p) == 0 {
		return n, err
	}
	source := <-a.body.source
	defer func() { a.body.source <- source }()
	if n, err := a.fromMemory(p); n > 0 || err != nil { // another attempt has read meanwhile
		return n, err
	}
	n, err := source.Read(p)
	total := a.body.keep(p[:n], err)
	a.body.mu.Lock()
	defer a.body.mu.Unlock()
	a.at = total
	return n, err
}

// fromMemory reads what was read from the client before. Nothing and no error mean
// that the client is to be asked.
func (a *attemptBody) fromMemory(p []byte) (int, error) {
	a.body.mu.Lock()
	defer a.body.mu.Unlock()
	switch {
	case a.closed, a.body.over && !a.body.ended:
		return 0, errBodyClosed
	case a.at == a.body.total && a.body.ended:
		return 0, io.EOF
	case a.at == a.body.total:
		return 0, a.body.err
	case a.body.total > maxReplay:
		return 0, errBodyGone
	}
	n := copy(p, a.body.kept[a.at:])
	a.at += n
	return n, nil
}

// Close implements io.Closer: the attempt reads no more.
func (a *attemptBody) Close() error {
	a.body.mu.Lock()
	defer a.body.mu.Unlock()
	a.closed = true
	return nil
}
