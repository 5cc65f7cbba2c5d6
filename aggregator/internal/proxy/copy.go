package proxy

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/annex-api/annex/aggregator/internal/backend"
	"github.com/annex-api/annex/aggregator/internal/proxy/outgoing"
)

const (
	bufferSize = 32 << 10
	bulkSize   = backend.MaxFrame
)

var (
	buffers     = newBuffers(bufferSize)
	bulkBuffers = newBuffers(bulkSize)
)

func newBuffers(size int) *sync.Pool {
	return &sync.Pool{New: func() any { b := make([]byte, size); return &b }}
}

// copyResponse streams an answer to the client. Where it breaks off cleanEnd says
// whether what the client has may end as if it were whole; nil says no. See ends.go. It
// returns how many bytes of the body were sent.
func copyResponse(w http.ResponseWriter, r *http.Request, response *http.Response, cleanEnd func() bool) (sent int64) {
	announced := copyHead(w, response)
	stop := endWithDeadline(w, r)
	sent, err := copyBody(w, response)
	stop()
	switch {
	case err == nil:
		copyTrailers(w, response, announced)
	case cleanEnd != nil && cleanEnd():
	default:
		endHalfAnswer(w, r, err)
	}
	return sent
}

// copyHead writes the status and all headers, and returns how many trailers
// they announce.
func copyHead(w http.ResponseWriter, response *http.Response) (announced int) {
	outgoing.CopyHeader(w.Header(), response.Header)
	outgoing.CleanResponse(response.Trailer)
	if len(response.Trailer) > 0 {
		names := make([]string, 0, len(response.Trailer))
		for name := range response.Trailer {
			names = append(names, name)
		}
		w.Header().Add("Trailer", strings.Join(names, ", "))
	}
	w.WriteHeader(response.StatusCode)
	response.Header = nil // copied: a watch would hold it as long as it lasts
	return len(response.Trailer)
}

// copyTrailers is for a body that was read to its end: trailers are complete then. To
// close it here would wait for a client that still sends, though it has its answer.
func copyTrailers(w http.ResponseWriter, response *http.Response, announced int) {
	outgoing.CleanResponse(response.Trailer) // those that were not announced
	for name, values := range response.Trailer {
		if len(response.Trailer) != announced {
			name = http.TrailerPrefix + name
		}
		for _, v := range values {
			w.Header().Add(name, v)
		}
	}
}

// copyBody streams the body. Bodies of unknown length, watches among them, are
// flushed after each read, which costs nothing where it filled the server's own
// buffer of 4 KiB; the others as that fills.
func copyBody(w http.ResponseWriter, response *http.Response) (sent int64, err error) {
	if body, ok := response.Body.(*memoryBody); ok {
		return int64(body.Len()), writePieces(w, body.Bytes())
	}
	flush := func() error { return nil }
	if response.ContentLength < 0 {
		controller := http.NewResponseController(w)
		flush = func() error {
			if err := controller.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
				return err
			}
			return nil
		}
		if err := flush(); err != nil { // the header, before a first event
			return 0, clientError{err}
		}
	}
	for {
		// Reading nothing waits for data: a silent watch holds no buffer.
		if _, err := response.Body.Read(nil); err == io.EOF {
			return sent, nil
		} else if err != nil {
			return sent, err
		}
		n, err := copyOnce(w, response.Body)
		sent += int64(n)
		if err != nil && err != io.EOF {
			return sent, err
		}
		if ferr := flush(); ferr != nil {
			return sent, clientError{ferr}
		}
		if err == io.EOF {
			return sent, nil
		}
	}
}

// copyOnce copies what one read gives, and returns how much that is.
func copyOnce(w io.Writer, body io.Reader) (n int, err error) {
	buffer := bulkBuffers.Get().(*[]byte)
	defer bulkBuffers.Put(buffer)
	n, err = body.Read(*buffer)
	if n > 0 {
		if werr := writePieces(w, (*buffer)[:n]); werr != nil {
			return n, werr
		}
	}
	return n, err
}

// writePieces writes data in as few pieces of like size as there are TLS records to
// write: what is larger than a usual frame would be cut into frames of 16 KiB.
func writePieces(w io.Writer, data []byte) error {
	pieces := 1
	if len(data) > 16<<10 {
		pieces = (len(data) + backend.RecordData - 1) / backend.RecordData
	}
	for ; pieces > 0; pieces-- {
		n := (len(data) + pieces - 1) / pieces
		if _, err := w.Write(data[:n]); err != nil {
			return clientError{err}
		}
		data = data[n:]
	}
	return nil
}

// copyAll copies all that there is.
func copyAll(to io.Writer, from io.Reader) error {
	buffer := buffers.Get().(*[]byte)
	defer buffers.Put(buffer)
	// Hide ReadFrom and WriteTo: they would copy through buffers of their own.
	_, err := io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, *buffer)
	return err
}

// readSmall reads a body of known, small length into memory.
func readSmall(response *http.Response) error {
	if response.ContentLength <= 0 || response.ContentLength > bufferSize || response.Request.Method == http.MethodHead {
		return nil
	}
	data := make([]byte, response.ContentLength)
	_, err := io.ReadFull(response.Body, data)
	_ = response.Body.Close()
	if err != nil {
		return err
	}
	response.Body = &memoryBody{*bytes.NewBuffer(data)}
	return nil
}

// memoryBody is a body that has been read.
type memoryBody struct{ bytes.Buffer }

// Close implements io.Closer.
func (*memoryBody) Close() error { return nil }
