package conformance

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"k8s.io/client-go/rest"
)

func streamChecks() []Check {
	return []Check{{
		ID:      "stream/long",
		Promise: "A streaming subresource stays open for longer than the minute that other requests have.",
		Source:  "k8s.io/apiserver/pkg/server/config.go, LongRunningFunc",
		Faults:  []int{13},
		Needs:   []Need{StreamPath},
		Slow:    true,
		Within:  4 * time.Minute,
		Run:     checkStream,
	}}
}

// streamOpen is above the 60 seconds of a request that is not long-running.
const streamOpen = 75 * time.Second

func checkStream(ctx context.Context, t *T) {
	stream := t.target.Stream
	path, text, _ := strings.Cut(stream.Path, "?")
	search, err := url.ParseQuery(text)
	if err != nil {
		t.fatalf(nil, "the stream's path %q: %v", stream.Path, err)
	}
	if !strings.HasPrefix(path, "/") {
		path = t.path(t.existing(ctx)) + "/" + path
	}
	open := stream.Open
	if open == 0 {
		open = streamOpen
	}
	r := request{method: http.MethodGet, path: path, query: search}
	if stream.WebSocket {
		r = r.with("Connection", "Upgrade").with("Upgrade", "websocket").
			with("Sec-WebSocket-Version", "13").with("Sec-WebSocket-Key", "Y29uZm9ybWFuY2Uta2l0IQ==")
	}
	c, err := newStreamClient(t.target.Config, stream.WebSocket)
	if err != nil {
		t.fatalf(nil, "%v", err)
	}
	defer c.close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	timer := time.AfterFunc(requestLimit, cancel)
	begin := time.Now()
	resp, e, err := c.open(ctx, r)
	if !timer.Stop() || err != nil {
		t.fatalf(e, "there was no answer within %v: %v", requestLimit, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusSwitchingProtocols {
		t.fatalf(e, "answered %s, want 200 or 101", code(resp.StatusCode))
	}
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, resp.Body)
		ended <- err
	}()
	if pauseOr(ctx, open, ended) {
		cancel()
		resp.Body.Close()
		<-ended
		return
	}
	t.failf(e, "the stream was cut after %v, want it open for %v: is its subresource known as long-running, by the server and by the API server before it?", time.Since(begin).Round(100*time.Millisecond), open)
}

// pauseOr waits, and says whether the whole time passed before the end came.
func pauseOr(ctx context.Context, d time.Duration, ended <-chan error) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ended:
	case <-ctx.Done():
		<-ended
	}
	return false
}

// newStreamClient makes a client of its own for a stream. An upgrade needs HTTP/1.1.
func newStreamClient(config *rest.Config, upgrade bool) (*client, error) {
	if upgrade {
		config = rest.CopyConfig(config)
		config.NextProtos = []string{"http/1.1"}
	}
	return newClient(config)
}
