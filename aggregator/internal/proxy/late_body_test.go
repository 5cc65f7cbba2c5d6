package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

func TestABodyArrivesInTimeOrNot(t *testing.T) {
	for name, c := range map[string]struct {
		begin, rest string
		ended       bool // before the time is over
		length      int64
		want        bool
	}{
		"all at once":                    {"0123456789", "", true, -1, true},
		"all of a known length":          {"0123456789", "", false, 10, true}, // whatever comes of the stream's end
		"all, without an end":            {"0123456789", "", false, -1, false},
		"a part of a known length":       {"01234", "56789", false, 10, false},
		"nothing":                        {"", "0123456789", false, -1, false},
		"as much as is kept, and an end": {string(make([]byte, maxReplay)), "", true, maxReplay, true},
		"more than is kept":              {string(make([]byte, maxReplay+1)), "", true, -1, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, send := io.Pipe()
				b := newReplayBody(&http.Request{Body: client, ContentLength: c.length})
				go func() {
					_, _ = io.WriteString(send, c.begin)
					if c.ended {
						_ = send.Close()
					}
				}()
				start := time.Now()
				if got := b.arrive(t.Context(), bodyWait); got != c.want {
					t.Errorf("it has arrived: %v", got)
				}
				if d := time.Since(start); d > bodyWait || c.want && d > 0 {
					t.Errorf("after %v", d)
				}
				if !c.ended {
					go func() {
						_, _ = io.WriteString(send, c.rest)
						_ = send.Close()
					}()
				}
				got, err := io.ReadAll(b.open(nil))
				if err != nil || string(got) != c.begin+c.rest {
					t.Errorf("an attempt reads %d bytes, %v", len(got), err)
				}
				_, _ = io.Copy(io.Discard, client) // nobody writes any more
			})
		})
	}
}

// The error of a client that breaks off is the attempt's.
func TestABodyThatBreaksOffIsNotWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("broken")
		for _, length := range []int64{-1, 10} {
			client, send := io.Pipe()
			b := newReplayBody(&http.Request{Body: client, ContentLength: length})
			go func() {
				_, _ = io.WriteString(send, "01234")
				_ = send.CloseWithError(broken)
			}()
			if b.arrive(t.Context(), bodyWait) {
				t.Error("it has arrived")
			}
			if got, err := io.ReadAll(b.open(nil)); string(got) != "01234" || !errors.Is(err, broken) {
				t.Errorf("an attempt reads %q, %v", got, err)
			}
		}
	})
}

func TestTheWaitForABodyEndsWithTheRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, send := io.Pipe()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		start := time.Now()
		b := newReplayBody(&http.Request{Body: client, ContentLength: -1})
		if b.arrive(ctx, time.Hour) || time.Since(start) != 0 {
			t.Errorf("after %v", time.Since(start))
		}
		_ = send.Close()
	})
}

// However the body comes, and however it is read: no attempt gets its end before that
// may be passed on, each gets all of it, and none gets its end if it may not.
func TestTheEndIsGuarded(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		data := bytes.Repeat([]byte("0123456789"), rapid.IntRange(1, maxReplay/8).Draw(rt, "size"))
		length := int64(-1)
		if rapid.Bool().Draw(rt, "known length") {
			length = int64(len(data))
		}
		cuts := rapid.SliceOfN(rapid.IntRange(0, len(data)), 0, 4).Draw(rt, "cuts")
		ahead := rapid.Bool().Draw(rt, "ahead")
		allowed := rapid.Bool().Draw(rt, "allowed")
		buffer := rapid.IntRange(1, 2*maxReplay).Draw(rt, "buffer")
		client, send := io.Pipe()
		b := newReplayBody(&http.Request{Body: client, ContentLength: length})
		asked := 0
		refused := errors.New("refused")
		b.atEnd = func() error {
			if asked++; allowed {
				return nil
			}
			return refused
		}
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			rest := data
			for _, cut := range cuts {
				part := min(cut, len(rest))
				_, _ = send.Write(rest[:part])
				rest = rest[part:]
			}
			_, _ = send.Write(rest)
			_ = send.Close()
		}()
		if ahead {
			b.readAhead()
		}
		attempt, p := b.open(nil), make([]byte, buffer)
		var got []byte
		var err error
		for err == nil {
			var n int
			n, err = attempt.Read(p)
			got = append(got, p[:n]...)
			if asked == 0 && (err == io.EOF || length > 0 && len(got) == len(data)) {
				rt.Fatalf("the end was passed on unasked, after %d bytes", len(got))
			}
		}
		_ = client.Close()
		<-sent
		switch {
		case allowed && (err != io.EOF || !bytes.Equal(got, data)):
			rt.Errorf("%d of %d bytes, %v", len(got), len(data), err)
		case !allowed && !errors.Is(err, refused):
			rt.Errorf("refused, and the attempt ended with %v", err)
		case !allowed && length > 0 && len(got) == len(data):
			rt.Error("all of the body was passed on")
		}
	})
}
