package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/annex-api/annex/aggregator"
)

// TestExample does what the command's documentation says, and ends it.
func TestExample(t *testing.T) {
	extension, ca := start(t)
	base, stop, ended := begin(t, aggregator.NewStaticSource(greetings(ca)), extension)
	for path, want := range map[string]string{
		"/apis/example.com/v1/greetings": "hello guest",
		"/apis":                          `"groupVersion":"example.com/v1"`,
		"/":                              "the program's own answer",
	} {
		waitFor(t, base+path, want)
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("asked to end, it ends with %v", err)
	}
}

// A Source that fails ends the program, which says why.
func TestAFailingSourceEndsTheProgram(t *testing.T) {
	extension, ca := start(t)
	fail := make(chan error)
	base, _, ended := begin(t, failing{greetings(ca), fail}, extension)
	waitFor(t, base+"/apis/example.com/v1/greetings", "hello guest")
	broken := errors.New("the registry is gone")
	fail <- broken
	if err := <-ended; !errors.Is(err, broken) {
		t.Errorf("it ends with %v, want %v", err, broken)
	}
}

// failing is a Source that publishes one State, and fails when told to.
type failing struct {
	state aggregator.State
	fail  chan error
}

func (f failing) Run(_ context.Context, publish func(aggregator.State)) error {
	publish(f.state)
	return <-f.fail
}

func start(t *testing.T) (address string, ca []byte) {
	t.Helper()
	address, ca, stop, err := startExtensionServer()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return address, ca
}

// begin serves on a free port until stop is called; ended tells how it ended.
func begin(t *testing.T, source aggregator.Source, extension string) (base string, stop func(), ended <-chan error) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	end := make(chan error, 1)
	go func() { end <- serve(ctx, listener, source, extension) }()
	return "http://" + listener.Addr().String(), cancel, end
}

func waitFor(t *testing.T, url, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var last string
	for ticker := time.NewTicker(10 * time.Millisecond); ; {
		response, err := http.Get(url)
		if err == nil {
			body, _ := io.ReadAll(response.Body)
			_ = response.Body.Close()
			if last = string(body); strings.Contains(last, want) {
				return
			}
		}
		select {
		case <-ctx.Done():
			t.Fatalf("GET %s: got %q (%v), want %q", url, last, err, want)
		case <-ticker.C:
		}
	}
}
