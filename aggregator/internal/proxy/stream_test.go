package proxy

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/annex-api/annex/aggregator/internal/backendtest"
)

func TestEventsArriveBeforeTheBodyEnds(t *testing.T) {
	next := make(chan struct{})
	s := backendtest.Start(t, "api", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, event := range []string{"one\n", "two\n"} {
			_, _ = io.WriteString(w, event)
			_ = http.NewResponseController(w).Flush()
			select {
			case <-next:
			case <-r.Context().Done():
			}
		}
	}))
	f := startFront(t, s.Claim(name))
	for _, path := range []string{"/things?watch=1", "/things/x/log?follow=1", "/things"} {
		response := f.do(t, "GET", base+path, nil, nil)
		for _, want := range []string{"one\n", "two\n"} {
			got := make([]byte, len(want))
			if _, err := io.ReadFull(response.Body, got); err != nil || string(got) != want {
				t.Fatalf("%s: %q, %v", path, got, err)
			}
			next <- struct{}{} // only now the server goes on
		}
		if rest := read(t, response); rest != "" {
			t.Errorf("%s: more: %q", path, rest)
		}
	}
}

// A watch is answered before its first event.
func TestHeaderArrivesBeforeTheFirstEvent(t *testing.T) {
	done := make(chan struct{})
	s := backendtest.Start(t, "api", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Early", "yes")
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		<-done
	}))
	f := startFront(t, s.Claim(name))
	response := f.do(t, "GET", base+"/things?watch=1", nil, nil)
	if response.Header.Get("X-Early") != "yes" {
		t.Errorf("%v", response.Header)
	}
	close(done)
	read(t, response)
}

func TestTrailers(t *testing.T) {
	for what, announce := range map[string]bool{"announced": true, "late": false} {
		t.Run(what, func(t *testing.T) {
			s := backendtest.Start(t, "api", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				prefix := http.TrailerPrefix
				if announce {
					w.Header().Set("Trailer", "X-Sum, Set-Cookie")
					prefix = ""
				}
				_, _ = io.WriteString(w, "body")
				_ = http.NewResponseController(w).Flush()
				w.Header().Set(prefix+"X-Sum", "42")
				w.Header().Set(prefix+"Set-Cookie", "a=b") // which is not the server's to set, see originHeaders
			}))
			f := startFront(t, s.Claim(name))
			response := f.do(t, "GET", base+"/things", nil, nil)
			if body := read(t, response); body != "body" || response.Trailer.Get("X-Sum") != "42" || len(response.Trailer) != 1 {
				t.Errorf("body %q, trailers %v", body, response.Trailer)
			}
		})
	}
}

// A body that breaks off must not look whole to the client. One that is small
// was read before its header left, and becomes an error.
func TestTruncatedBodyAbortsTheAnswer(t *testing.T) {
	for what, length := range map[string]string{"known length": "1000000", "small": "1000", "unknown length": "", "a log": ""} {
		t.Run(what, func(t *testing.T) {
			s := backendtest.Start(t, "api", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if length != "" {
					w.Header().Set("Content-Length", length)
				}
				_, _ = io.WriteString(w, "some")
				_ = http.NewResponseController(w).Flush()
				panic(http.ErrAbortHandler)
			}))
			f := startFront(t, s.Claim(name))
			path := base + "/things"
			if what == "a log" {
				path = base + "/namespaces/x/things/y/log?follow=true"
			}
			response, err := f.client.Get(f.URL + path)
			if err != nil {
				return // aborted before the header left: not whole either
			}
			defer response.Body.Close()
			body, err := io.ReadAll(response.Body)
			if failed := response.StatusCode == http.StatusServiceUnavailable; err == nil && !(what == "small" && failed) {
				t.Errorf("the client read %d %q and no error", response.StatusCode, body)
			}
		})
	}
}

func TestAnswersWithoutBody(t *testing.T) {
	s := backendtest.Start(t, "api", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case base + "/none":
			w.WriteHeader(http.StatusNoContent)
		case base + "/same":
			w.Header().Set("ETag", `"one"`)
			w.WriteHeader(http.StatusNotModified)
		default:
			w.Header().Set("Content-Length", "1234")
			w.Header().Set("Content-Type", "application/json")
		}
	}))
	f := startFront(t, s.Claim(name))
	for _, c := range []struct {
		method, path string
		code         int
		length       int64
	}{{"HEAD", "/things", 200, 1234}, {"GET", "/none", 204, 0}, {"GET", "/same", 304, 0}} {
		response := f.do(t, c.method, base+c.path, nil, nil)
		if body := read(t, response); body != "" || response.StatusCode != c.code || max(0, response.ContentLength) != c.length {
			t.Errorf("%s %s: %d, length %d, body %q", c.method, c.path, response.StatusCode, response.ContentLength, body)
		}
	}
	if response := f.do(t, "GET", base+"/same", nil, nil); response.Header.Get("Etag") != `"one"` {
		t.Errorf("%v", response.Header)
	}
}

// What a client sends is passed on as it comes, not when it is complete.
func TestRequestBodiesAreStreamed(t *testing.T) {
	got := make(chan string, 3)
	s := backendtest.Start(t, "api", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		buffer := make([]byte, 3)
		for {
			n, err := io.ReadFull(r.Body, buffer)
			if err != nil {
				got <- "end"
				return
			}
			got <- string(buffer[:n])
		}
	}))
	f := startFront(t, s.Claim(name))
	reader, writer := io.Pipe()
	go func() {
		defer writer.Close()
		for _, part := range []string{"one", "two"} {
			_, _ = io.WriteString(writer, part)
			select {
			case arrived := <-got:
				if arrived != part {
					t.Errorf("%q arrived, want %q", arrived, part)
				}
			case <-time.After(patience):
				t.Errorf("%q did not arrive before the body's end", part)
			}
		}
	}()
	f.do(t, "POST", base+"/things", reader, nil)
	if end := <-got; end != "end" {
		t.Errorf("%q", end)
	}
}

func TestLargeBodiesBothWays(t *testing.T) {
	s := backendtest.Start(t, "api", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Length", r.Header.Get("Content-Length"))
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("the server could not read: %v", err)
		}
		_, _ = w.Write(body)
	}))
	f := startFront(t, s.Claim(name))
	sent := make([]byte, 5<<20)
	_, _ = rand.Read(sent)
	for what, body := range map[string]io.Reader{"known length": bytes.NewReader(sent), "unknown length": struct{ io.Reader }{bytes.NewReader(sent)}} {
		response := f.do(t, "PUT", base+"/things/x", body, nil)
		hash := sha256.New()
		n, err := io.Copy(hash, response.Body)
		if err != nil || n != int64(len(sent)) || !bytes.Equal(hash.Sum(nil), sum(sent)) {
			t.Errorf("%s: %d bytes, %v", what, n, err)
		}
	}
}

func sum(b []byte) []byte { s := sha256.Sum256(b); return s[:] }

func TestClientsLeavingEndsTheBackendsRequest(t *testing.T) {
	for what, answerFirst := range map[string]bool{"before an answer": false, "during a watch": true} {
		t.Run(what, func(t *testing.T) {
			started, ended := make(chan struct{}), make(chan struct{})
			s := backendtest.Start(t, "api", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if answerFirst {
					w.WriteHeader(http.StatusOK)
					_ = http.NewResponseController(w).Flush()
				}
				close(started)
				<-r.Context().Done()
				close(ended)
			}))
			f := startFront(t, s.Claim(name))
			ctx, cancel := context.WithCancel(t.Context())
			r, err := http.NewRequestWithContext(ctx, "GET", f.URL+base+"/things", nil)
			if err != nil {
				t.Fatal(err)
			}
			result := make(chan error, 1)
			go func() {
				response, err := f.client.Do(r)
				if err == nil {
					_, err = io.ReadAll(response.Body)
					_ = response.Body.Close()
				}
				result <- err
			}()
			<-started
			cancel()
			if err := <-result; !errors.Is(err, context.Canceled) {
				t.Errorf("the client saw %v", err)
			}
			select {
			case <-ended:
			case <-time.After(patience):
				t.Error("the backend's request goes on")
			}
			if n := f.probes.Load(); n != 0 {
				t.Error("the server is probed because a client left")
			}
		})
	}
}

// The client's own encoding passes through: nothing is unpacked on the way.
func TestEncodingsPassThrough(t *testing.T) {
	s := backendtest.Start(t, "api", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", r.Header.Get("Accept-Encoding"))
		_, _ = io.WriteString(w, "packed")
	}))
	f := startFront(t, s.Claim(name))
	response := f.do(t, "GET", base+"/things", nil, http.Header{"Accept-Encoding": {"gzip"}})
	if body := read(t, response); body != "packed" || response.Header.Get("Content-Encoding") != "gzip" {
		t.Errorf("%q, %v", body, response.Header)
	}
	response = f.do(t, "GET", base+"/things", nil, nil)
	if body := read(t, response); !strings.HasPrefix(body, "packed") || response.Header.Get("Content-Encoding") != "" {
		t.Errorf("%q, %v: an encoding nobody asked for", body, response.Header)
	}
}
