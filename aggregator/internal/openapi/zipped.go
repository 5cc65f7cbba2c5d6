package openapi

import (
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/NYTimes/gziphandler"
)

// maxZipped bounds the compressed bytes kept, all documents together.
const maxZipped = 16 << 20

// zipped keeps documents compressed, so that one is compressed once and not for
// each request. It stands before handlers that compress what they are asked
// for, and answers as they do.
type zipped struct {
	limit int // bytes

	mu   sync.Mutex
	kept map[zippedKey]*zippedBody
	size int
}

// zippedKey names what may have one compressed form at a time.
type zippedKey struct{ path, contentType string }

// zippedBody is the compressed form of the document with an ETag. Done guards
// data, which is nil where the handler did not compress it.
type zippedBody struct {
	etag string
	done sync.Once
	data []byte
	// size is what counts against the limit. The owner's lock guards it.
	size int
}

func newZipped(limit int) *zipped {
	return &zipped{limit: limit, kept: map[zippedKey]*zippedBody{}}
}

// serve answers r as h does, an http.Handler that compresses by itself and
// gives ETags.
func (z *zipped) serve(w http.ResponseWriter, r *http.Request, h http.Handler) {
	if !plainlyZipped(r) {
		h.ServeHTTP(w, r)
		return
	}
	// Not asked to compress, the handler says which document it would send.
	uncompressed := *r
	uncompressed.Header = maps.Clone(r.Header)
	uncompressed.Header.Del("Accept-Encoding")
	head := &headOnly{header: w.Header().Clone()}
	h.ServeHTTP(head, &uncompressed)
	if head.code == http.StatusNotModified { // has no body, and one form
		maps.Copy(w.Header(), head.header)
		w.WriteHeader(head.code)
		return
	}
	etag := head.header.Get("Etag")
	length, err := strconv.Atoi(head.header.Get("Content-Length"))
	if head.code != http.StatusOK || etag == "" || err != nil || length < gziphandler.DefaultMinSize {
		h.ServeHTTP(w, r)
		return
	}
	body := z.get(zippedKey{r.URL.Path, head.header.Get("Content-Type")}, etag, h, r)
	if body == nil {
		h.ServeHTTP(w, r)
		return
	}
	maps.Copy(w.Header(), head.header)
	w.Header().Del("Content-Length")
	w.Header().Set("Content-Encoding", "gzip")
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(body) // the client may be gone
}

// plainlyZipped says whether a request wants a whole document compressed. It
// leaves the rare ways to say so to the handler.
func plainlyZipped(r *http.Request) bool {
	if r.Method != http.MethodGet {
		return false
	}
	for _, h := range [...]string{"Range", "If-Range", "If-Match", "If-Modified-Since", "If-Unmodified-Since"} {
		if len(r.Header[h]) > 0 {
			return false
		}
	}
	found := false
	for coding := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		switch coding = strings.TrimSpace(coding); {
		case coding == "gzip":
			found = true
		case len(coding) >= 4 && strings.EqualFold(coding[:4], "gzip"):
			return false
		}
	}
	return found
}

// get returns the compressed document, and has h compress it where that was
// not done. It is nil when h does not compress it, or not as this document.
func (z *zipped) get(key zippedKey, etag string, h http.Handler, r *http.Request) []byte {
	z.mu.Lock()
	b := z.kept[key]
	if b == nil || b.etag != etag {
		if b != nil {
			z.size -= b.size
		}
		b = &zippedBody{etag: etag}
		z.kept[key] = b
	}
	z.mu.Unlock()
	b.done.Do(func() {
		all := &whole{header: http.Header{}}
		h.ServeHTTP(all, r)
		if all.code == http.StatusOK && all.header.Get("Content-Encoding") == "gzip" &&
			all.header.Get("Etag") == etag && all.header.Get("Content-Type") == key.contentType {
			b.data = slices.Clone(all.body)
		}
		z.settle(key, b)
	})
	return b.data
}

// settle counts a body that was worked out, and makes room for it. What does
// not fit at all, or is nothing, is not kept.
func (z *zipped) settle(key zippedKey, b *zippedBody) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.kept[key] != b {
		return // a newer document took its place
	}
	if len(b.data) == 0 || len(b.data) > z.limit {
		delete(z.kept, key)
		return
	}
	b.size = len(b.data)
	z.size += b.size
	for other, old := range z.kept { // any: which one is asked for next is not known
		if z.size <= z.limit {
			return
		}
		if old != b && old.size > 0 {
			z.size -= old.size
			delete(z.kept, other)
		}
	}
}

// errHeadOnly stops a handler that begins to write a body.
var errHeadOnly = errors.New("only the headers are wanted")

// headOnly takes a response's headers. A body is refused at its first byte.
type headOnly struct {
	header http.Header
	code   int
}

func (h *headOnly) Header() http.Header { return h.header }

func (h *headOnly) WriteHeader(code int) {
	if h.code == 0 {
		h.code = code
	}
}

func (h *headOnly) Write([]byte) (int, error) {
	h.WriteHeader(http.StatusOK)
	return 0, errHeadOnly
}

// ReadFrom spares http.ServeContent the buffer for a copy that is not made.
func (h *headOnly) ReadFrom(io.Reader) (int64, error) {
	_, err := h.Write(nil)
	return 0, err
}

// whole takes a response.
type whole struct {
	header http.Header
	code   int
	body   []byte
}

func (a *whole) Header() http.Header { return a.header }

func (a *whole) WriteHeader(code int) {
	if a.code == 0 {
		a.code = code
	}
}

func (a *whole) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	a.body = append(a.body, p...)
	return len(p), nil
}
