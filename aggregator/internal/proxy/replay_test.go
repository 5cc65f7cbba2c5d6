package proxy

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"testing"
	"testing/iotest"
	"testing/synctest"

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
		if !b.whole() {
			t.Error("a request without a body cannot be sent again")
		}
	}
}

func TestABodyIsReplayedUpToItsBound(t *testing.T) {
	for _, size := range []int{1, 100, maxReplay - 1, maxReplay, maxReplay + 1, 3 * maxReplay} {
		data := bytes.Repeat([]byte{7, 8, 9}, size/3+1)[:size]
		b := bodyOf(data)
		if got, err := io.ReadAll(b.open(nil)); err != nil || !bytes.Equal(got, data) {
			t.Fatalf("%d bytes: read %d, %v", size, len(got), err)
		}
		again := b.whole()
		if again != (size <= maxReplay) {
			t.Fatalf("%d bytes: can be sent again: %t", size, again)
		}
		if n := len(b.kept); n > maxReplay || !again && n > 0 {
			t.Fatalf("%d bytes: %d are kept", size, n)
		}
		got, err := io.ReadAll(b.open(nil))
		if again && (err != nil || !bytes.Equal(got, data)) || !again && (!errors.Is(err, errBodyGone) || len(got) != 0) {
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
			attempt := b.open(nil)
			if _, err := io.ReadFull(attempt, got); err != nil || !bytes.Equal(got, data[:part]) {
				t.Fatalf("an attempt read %d other bytes: %v", part, err)
			}
			most = max(most, part)
			if err := attempt.Close(); err != nil {
				t.Fatal(err)
			}
			if !b.whole() {
				if most <= maxReplay/2 {
					t.Fatalf("%d bytes were read and cannot be read again", most)
				}
				return
			}
			if most > maxReplay {
				t.Fatalf("%d bytes were read and are said to be kept", most)
			}
		}
		if got, err := io.ReadAll(b.open(nil)); err != nil || !bytes.Equal(got, data) {
			t.Fatalf("the last attempt read %d of %d bytes: %v", len(got), len(data), err)
		}
	})
}

// An attempt that was given up while it waits for the client keeps nobody from the
// next attempt, which gets what the client then sends.
func TestAnAttemptThatWasGivenUpTakesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, send := io.Pipe()
		b := newReplayBody(&http.Request{Body: client, ContentLength: -1})
		old := b.open(nil)
		go func() { _, _ = io.WriteString(send, "first ") }()
		if n, err := io.ReadFull(old, make([]byte, 6)); err != nil {
			t.Fatalf("%d bytes and %v", n, err)
		}
		given := make(chan error, 1)
		go func() {
			_, err := old.Read(make([]byte, 100))
			given <- err
		}()
		synctest.Wait() // it waits for the client
		_ = old.Close()
		if !b.whole() {
			t.Fatal("the body cannot be sent again")
		}
		all := make(chan string, 1)
		go func() {
			got, err := io.ReadAll(b.open(nil))
			if err != nil {
				t.Error(err)
			}
			all <- string(got)
		}()
		synctest.Wait() // so does the next attempt
		_, _ = io.WriteString(send, "second ")
		if err := <-given; err != nil {
			t.Errorf("the read under way: %v", err)
		}
		if n, err := old.Read(make([]byte, 100)); n != 0 || !errors.Is(err, errBodyClosed) {
			t.Errorf("later: %d bytes and %v", n, err)
		}
		_, _ = io.WriteString(send, "third")
		_ = send.Close()
		if got := <-all; got != "first second third" {
			t.Errorf("the next attempt read %q", got)
		}
	})
}
