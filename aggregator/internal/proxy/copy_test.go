package proxy

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
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

// flushes counts them beside what is written.
type flushes struct {
	*httptest.ResponseRecorder
	pieces
	n int
}

func (f *flushes) Write(b []byte) (int, error)       { return f.pieces.Write(b) }
func (f *flushes) WriteString(s string) (int, error) { return f.pieces.Write([]byte(s)) }
func (f *flushes) Flush()                            { f.n++ }

// What was read is with the client before more is waited for, whoever the client is; a
// body of known length is left to the server's own buffer.
func TestBodiesOfUnknownLengthAreFlushed(t *testing.T) {
	data := make([]byte, 3*bulkSize+1)
	_, _ = rand.Read(data)
	for _, c := range []struct {
		what    string
		length  int64
		silent  bool
		reader  io.Reader
		flushes int
	}{
		{"known", int64(len(data)), false, bytes.NewReader(data), 0},
		{"unknown", -1, false, bytes.NewReader(data), 1 + 4},
		{"the end comes with the data", -1, false, together{bytes.NewReader(data)}, 1 + 4},
		// Silent ones use the smaller buffer: seven reads, and one that tells the end.
		{"silent", -1, true, bytes.NewReader(data), 1 + len(data)/bufferSize + 1},
	} {
		w := &flushes{ResponseRecorder: httptest.NewRecorder()}
		if err := copyBody(w, &http.Response{ContentLength: c.length, Body: io.NopCloser(c.reader)}, c.silent); err != nil {
			t.Errorf("%s: %v", c.what, err)
		}
		if !bytes.Equal(w.Bytes(), data) {
			t.Errorf("%s: %d of %d bytes arrived, or others", c.what, w.pieces.Len(), len(data))
		}
		if w.n != c.flushes {
			t.Errorf("%s: flushed %d times, want %d", c.what, w.n, c.flushes)
		}
	}
}

// Whatever one of them says ends the copying, and is told.
func TestCopyingEndsWithTheFirstError(t *testing.T) {
	broken := errors.New("broken")
	for _, length := range []int64{-1, 100, bufferSize + 1} {
		for _, silent := range []bool{false, true} {
			what := strconv.FormatInt(length, 10) + " " + strconv.FormatBool(silent)
			body := io.MultiReader(bytes.NewReader(make([]byte, 50)), iotest.ErrReader(broken))
			w := &flushes{ResponseRecorder: httptest.NewRecorder()}
			err := copyBody(w, &http.Response{ContentLength: length, Body: io.NopCloser(body)}, silent)
			if !errors.Is(err, broken) || w.pieces.Len() != 50 {
				t.Errorf("%s: %v after %d bytes", what, err, w.pieces.Len())
			}
			endless := io.NopCloser(iotest.OneByteReader(zeros{}))
			if err := copyBody(refuser{httptest.NewRecorder(), broken}, &http.Response{ContentLength: length, Body: endless}, silent); !errors.Is(err, broken) {
				t.Errorf("%s: a client that is gone: %v", what, err)
			}
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
