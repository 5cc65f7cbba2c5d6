package proxy

import (
	"bytes"
	"io"
	"net/http"
	"sync"
)

// maxReplay is how much of a request's body is kept, in bytes, so that it can
// be sent again.
const maxReplay = 64 << 10

// replayBody reads a client's body and keeps its beginning. Closing it does
// not close the client's: that is the server's to do.
type replayBody struct {
	source io.Reader

	mu   sync.Mutex
	kept bytes.Buffer
	lost bool // more was read than is kept
	at   int  // of kept, how much was read again
}

// newReplayBody returns nil for a request without a body.
func newReplayBody(r *http.Request) *replayBody {
	if r.ContentLength == 0 || r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	return &replayBody{source: r.Body}
}

func (b *replayBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.at < b.kept.Len() {
		n := copy(p, b.kept.Bytes()[b.at:])
		b.at += n
		return n, nil
	}
	n, err := b.source.Read(p)
	if b.kept.Len()+n > maxReplay {
		b.lost = true
		b.kept = bytes.Buffer{}
		b.at = 0
	} else if !b.lost {
		b.kept.Write(p[:n])
		b.at += n
	}
	return n, err
}

// Close ends one attempt's use of the body.
func (b *replayBody) Close() error { return nil }

// rewind makes the next Read begin anew; false if that cannot be.
func (b *replayBody) rewind() bool {
	if b == nil {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.at = 0
	return !b.lost
}
