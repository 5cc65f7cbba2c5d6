package proxy

import (
	"bytes"
	"io"
	"net/http"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

func bodyOf(data []byte) *replayBody {
	return newReplayBody(&http.Request{Body: io.NopCloser(iotest.HalfReader(bytes.NewReader(data))), ContentLength: -1})
}

func TestNoBodyIsNotReplayed(t *testing.T) {
	for _, r := range []*http.Request{
		{}, {Body: http.NoBody}, {Body: http.NoBody, ContentLength: -1}, {Body: io.NopCloser(bytes.NewReader(nil))},
	} {
		b := newReplayBody(r)
		if b != nil {
			t.Errorf("%+v has a body", r)
		}
		if !b.rewind() {
			t.Error("a request without a body cannot be sent again")
		}
	}
}

func TestABodyIsReplayedUpToItsBound(t *testing.T) {
	for _, size := range []int{1, 100, maxReplay - 1, maxReplay, maxReplay + 1, 3 * maxReplay} {
		data := bytes.Repeat([]byte{7, 8, 9}, size/3+1)[:size]
		b := bodyOf(data)
		if got, err := io.ReadAll(b); err != nil || !bytes.Equal(got, data) {
			t.Fatalf("%d bytes: read %d, %v", size, len(got), err)
		}
		again := b.rewind()
		if again != (size <= maxReplay) {
			t.Fatalf("%d bytes: can be sent again: %t", size, again)
		}
		if n := b.kept.Len(); n > maxReplay || !again && n > 0 {
			t.Fatalf("%d bytes: %d are kept", size, n)
		}
		if !again {
			continue
		}
		if got, err := io.ReadAll(b); err != nil || !bytes.Equal(got, data) {
			t.Fatalf("%d bytes: read %d the second time, %v", size, len(got), err)
		}
	}
}

// Whatever part was read before, each new attempt sees the body from its
// beginning, or is told that it cannot.
func TestEveryAttemptSeesTheWholeBody(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		data := make([]byte, rapid.IntRange(1, 2*maxReplay).Draw(t, "size"))
		for i := range data {
			data[i] = byte(i * 31)
		}
		b := bodyOf(data)
		most := 0
		for _, part := range rapid.SliceOfN(rapid.IntRange(0, 2*maxReplay), 1, 4).Draw(t, "parts") {
			part = min(part, len(data))
			got := make([]byte, part)
			if _, err := io.ReadFull(b, got); err != nil || !bytes.Equal(got, data[:part]) {
				t.Fatalf("an attempt read %d other bytes: %v", part, err)
			}
			most = max(most, part)
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			if !b.rewind() {
				if most <= maxReplay/2 {
					t.Fatalf("%d bytes were read and cannot be read again", most)
				}
				return
			}
			if most > maxReplay {
				t.Fatalf("%d bytes were read and are said to be kept", most)
			}
		}
		if got, err := io.ReadAll(b); err != nil || !bytes.Equal(got, data) {
			t.Fatalf("the last attempt read %d of %d bytes: %v", len(got), len(data), err)
		}
	})
}
