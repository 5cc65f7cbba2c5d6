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

// maxGzipped bounds the compressed bytes kept, all documents together.
const maxGzipped = 16 << 20

// gzipCache keeps documents compressed, so that one is compressed once and not for
// each request. It stands before handlers that compress what they are asked
// for, and answers as they do.
type gzipCache struct {
	limit int // bytes

	mu   sync.Mutex
	kept map[gzipKey]*gzipBody
	size int
}

// gzipKey names what may have one compressed form at a time.
type gzipKey struct{ path, contentType string }

// gzipBody is the compressed form of the document with an ETag. Done guards
// data, which is nil where the handler did not compress it.
type gzipBody struct {
	etag string
	done sync.Once
	data []byte
	// size is what counts against the limit. The owner's lock guards it.
	size int
}

func newGzipCache(limit int) *gzipCache {
	return &gzipCache{limit: limit, kept: map[gzipKey]*gzipBody{}}
}

// serve answers r as h does, an http.Handler that compresses by itself and
// gives ETags.
func (c *gzipCache) serve(w http.ResponseWriter, r *http.Request, h http.Handler) {
	if !wantsPlainGzip(r) {
		h.ServeHTTP(w, r)
		return
	}
	// Not asked to compress, the handler says which document it would send.
	uncompressed := *r
	uncompressed.Header = maps.Clone(r.Header)
	uncompressed.Header.Del("Accept-Encoding")
	head := &headOnly{header: w.Header().Clone()}
	h.ServeHTTP(head, &uncompressed)
	if head.code == http.StatusNotModified { // has no body, and nothing to compress
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
	body := c.get(gzipKey{r.URL.Path, head.header.Get("Content-Type")}, etag, h, r)
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

// wantsPlainGzip says whether a request wants a whole document compressed, in the
// way that clients commonly say so. Other ways are left to the handler.
func wantsPlainGzip(r *http.Request) bool {
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
func (c *gzipCache) get(key gzipKey, etag string, h http.Handler, r *http.Request) []byte {
	c.mu.Lock()
	b := c.kept[key]
	if b == nil || b.etag != etag {
		if b != nil {
			c.size -= b.size
		}
		b = &gzipBody{etag: etag}
		c.kept[key] = b
	}
	c.mu.Unlock()
	b.done.Do(func() {
		all := &recorder{header: http.Header{}}
		h.ServeHTTP(all, r)
		if all.code == http.StatusOK && all.header.Get("Content-Encoding") == "gzip" &&
			all.header.Get("Etag") == etag && all.header.Get("Content-Type") == key.contentType {
			b.data = slices.Clone(all.body)
		}
		c.makeRoom(key, b)
	})
	return b.data
}

// makeRoom counts a body that was compressed, and makes room for it. What does
// not fit at all, or is nothing, is not kept.
func (c *gzipCache) makeRoom(key gzipKey, b *gzipBody) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.kept[key] != b {
		return // a newer document took its place
	}
	if len(b.data) == 0 || len(b.data) > c.limit {
		delete(c.kept, key)
		return
	}
	b.size = len(b.data)
	c.size += b.size
	for other, old := range c.kept { // in any order: which one is asked for next is not known
		if c.size <= c.limit {
			return
		}
		if old != b && old.size > 0 {
			c.size -= old.size
			delete(c.kept, other)
		}
	}
}

// errHeadOnly is what a handler gets that begins to write a body.
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

// recorder keeps a response.
type recorder struct {
	header http.Header
	code   int
	body   []byte
}

func (r *recorder) Header() http.Header { return r.header }

func (r *recorder) WriteHeader(code int) {
	if r.code == 0 {
		r.code = code
	}
}

func (r *recorder) Write(p []byte) (int, error) {
	r.WriteHeader(http.StatusOK)
	r.body = append(r.body, p...)
	return len(p), nil
}
