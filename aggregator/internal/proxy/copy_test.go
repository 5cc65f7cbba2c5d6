package proxy

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/annex-api/annex/aggregator/internal/backend"
)

// pieces remembers each write.
type pieces struct {
	bytes.Buffer
	sizes []int
}

func (p *pieces) Write(b []byte) (int, error) {
	p.sizes = append(p.sizes, len(b))
	return p.Buffer.Write(b)
}

func TestWritePieces(t *testing.T) {
	const record = backend.RecordData
	for size, want := range map[int][]int{
		1:          {1},
		400:        {400},
		16 << 10:   {16 << 10}, // a usual frame stays one
		16<<10 + 1: {8193, 8192},
		2 * record: {record, record},
		40_000:     {13_334, 13_333, 13_333},
		bulkSize:   {record, record, record, record},
	} {
		data := make([]byte, size)
		_, _ = rand.Read(data)
		var got pieces
		if err := writePieces(&got, data); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got.sizes, want) || !bytes.Equal(got.Bytes(), data) {
			t.Errorf("%d bytes became pieces of %v, want %v", size, got.sizes, want)
		}
	}
}

// flushes remembers how much was written before each.
type flushes struct {
	*httptest.ResponseRecorder
	pieces
	at []int
}

func (f *flushes) Write(b []byte) (int, error)       { return f.pieces.Write(b) }
func (f *flushes) WriteString(s string) (int, error) { return f.pieces.Write([]byte(s)) }
func (f *flushes) Flush()                            { f.at = append(f.at, f.pieces.Len()) }

// What was read is with the client before more is waited for; a body of known length
// is left to the server's own buffer.
func TestBodiesOfUnknownLengthAreFlushed(t *testing.T) {
	data := make([]byte, 2*bulkSize+1)
	_, _ = rand.Read(data)
	each := []int{0, bulkSize, 2 * bulkSize, len(data)}
	for _, c := range []struct {
		what    string
		length  int64
		reader  io.Reader
		flushes []int
	}{
		{"known", int64(len(data)), bytes.NewReader(data), nil},
		{"unknown", -1, bytes.NewReader(data), each},
		{"the end comes with the data", -1, together{bytes.NewReader(data)}, each},
	} {
		w := &flushes{ResponseRecorder: httptest.NewRecorder()}
		if _, err := copyBody(w, &http.Response{ContentLength: c.length, Body: io.NopCloser(c.reader)}); err != nil {
			t.Errorf("%s: %v", c.what, err)
		}
		if !bytes.Equal(w.Bytes(), data) {
			t.Errorf("%s: %d of %d bytes arrived, or others", c.what, w.pieces.Len(), len(data))
		}
		if !slices.Equal(w.at, c.flushes) {
			t.Errorf("%s: flushed after %v bytes, want %v", c.what, w.at, c.flushes)
		}
	}
}

// Whatever either end says ends the copying, and is told.
func TestCopyingEndsWithTheFirstError(t *testing.T) {
	broken := errors.New("broken")
	for _, length := range []int64{-1, 100} {
		body := io.MultiReader(bytes.NewReader(make([]byte, 50)), iotest.ErrReader(broken))
		w := &flushes{ResponseRecorder: httptest.NewRecorder()}
		_, err := copyBody(w, &http.Response{ContentLength: length, Body: io.NopCloser(body)})
		if !errors.Is(err, broken) || w.pieces.Len() != 50 {
			t.Errorf("length %d: %v after %d bytes", length, err, w.pieces.Len())
		}
		gone := refuser{httptest.NewRecorder(), broken}
		if _, err := copyBody(gone, &http.Response{ContentLength: length, Body: io.NopCloser(zeros{})}); !errors.Is(err, broken) {
			t.Errorf("length %d: a client that is gone: %v", length, err)
		}
	}
}

// together tells the end with the last of the data, not after it.
type together struct{ *bytes.Reader }

func (r together) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	if err == nil && r.Len() == 0 {
		err = io.EOF
	}
	return n, err
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

type refuser struct {
	http.ResponseWriter
	err error
}

func (r refuser) Write([]byte) (int, error) { return 0, r.err }
