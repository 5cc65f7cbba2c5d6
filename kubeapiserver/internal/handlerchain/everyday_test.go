package handlerchain

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"k8s.io/apiserver/pkg/apis/audit"
)

// TestASessionOutlastsTheRequestTimeout has a session on a subresource that nobody
// knows beforehand go on for longer than other requests may take, and end without a
// word in the log.
func TestASessionOutlastsTheRequestTimeout(t *testing.T) {
	ids := newIdentities(t)
	w := newWorld(t, ids, ours, func(t *testing.T, w *world) {
		everything(t, w)
		w.config.RequestTimeout = 200 * time.Millisecond
	})
	w.warm(t)
	w.sink.reset()
	accessLog.reset()
	conn := dial(t, w.address, "http/1.1", ids.shown["alice"]).(*wire1)
	defer conn.close()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	r := call{target: widget + "/console", header: with("X-Do", "session", "Connection", "Upgrade", "Upgrade", "websocket")}.request(ctx, t)
	if err := r.Write(conn.conn); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(conn.r, r)
	if err != nil || response.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%v, %v", response, err)
	}
	for range 2 { // while others come to their deadline
		other := dial(t, w.address, "h2", ids.shown["admin"])
		if a := other.exchange(call{target: widget, header: does("wait end")}.request(ctx, t)); a.Status != http.StatusGatewayTimeout {
			t.Errorf("a request that waits for its deadline: %+v", a)
		}
		other.close()
	}
	fmt.Fprintln(conn.conn, "still here")
	if got, err := conn.r.ReadString('\n'); err != nil || !strings.Contains(got, "still here") {
		t.Errorf("%q, %v", got, err)
	}
	conn.close()
	w.idle(t)
	var stages []audit.Stage
	for _, e := range w.sink.all() {
		if !strings.HasSuffix(e.RequestURI, "/console") {
			continue
		}
		stages = append(stages, e.Stage)
		if e.ResponseStatus != nil && e.ResponseStatus.Code != http.StatusSwitchingProtocols {
			t.Errorf("%s is audited with %d", e.Stage, e.ResponseStatus.Code)
		}
	}
	if want := "[RequestReceived ResponseStarted ResponseComplete]"; fmt.Sprint(stages) != want {
		t.Errorf("audited as %v, want %s", stages, want)
	}
	if lines := accessLog.errors(); len(lines) > 0 {
		t.Errorf("errors in the log: %q", lines)
	}
}

// TestClientsThatLeaveAreNoErrors has clients leave answers of all kinds.
func TestClientsThatLeaveAreNoErrors(t *testing.T) {
	ids := newIdentities(t)
	w := newWorld(t, ids, ours, everything)
	w.warm(t)
	for _, c := range []call{
		{target: widgets + "?watch=1"}, // the first goes through the usual chain
		{target: widgets + "?watch=1"},
		{target: api + "/namespaces/ns/pods/p/log?follow=1"},
		{target: widgets},
	} {
		c.as, c.leaves, c.header = "alice", true, does("write flush left end")
		for _, proto := range []string{"http/1.1", "h2"} {
			accessLog.reset()
			got := w.observe(t, proto, c, nil)
			if lines := accessLog.errors(); len(lines) > 0 {
				t.Errorf("%s over %s: errors in the log: %q", c.target, proto, lines)
			}
			last := ""
			if n := len(got.Audit); n > 0 {
				last = got.Audit[n-1]
			}
			if !strings.Contains(last, `"stage":"ResponseComplete"`) && !strings.Contains(last, `"Stage":"ResponseComplete"`) || !strings.Contains(last, "200") {
				t.Errorf("%s over %s: audited at last as %s", c.target, proto, last)
			}
			for name := range got.Metrics {
				if strings.HasPrefix(name, "apiserver_request_aborts_total") {
					t.Errorf("%s over %s: %s", c.target, proto, name)
				}
			}
		}
	}
}

// echoLines answers each line of a session with the line.
func echoLines(w http.ResponseWriter) {
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusTeapot)
		return
	}
	defer func() { _ = conn.Close() }()
	_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	_, _ = io.Copy(conn, rw)
}

// A resource that is not UTF-8 is no label of a metric: that would be a panic, and the
// end of the connection.
func TestAResourceThatIsNotUTF8RunsOutOfTime(t *testing.T) {
	ids := newIdentities(t)
	w := newWorld(t, ids, ours, everything)
	w.warm(t)
	accessLog.reset()
	conn := dial(t, w.address, "h2", ids.shown["admin"])
	defer conn.close()
	for _, target := range []string{api + "/%ff", api + "/things/x/%ff", api + "/namespaces/ns/%ff/x"} {
		a := conn.exchange(call{target: target + "?timeout=1ns", header: does("wait end")}.request(t.Context(), t))
		if a.Status != http.StatusGatewayTimeout {
			t.Errorf("%s: %+v", target, a)
		}
	}
	w.idle(t)
	if lines := accessLog.errors(); len(lines) > 0 {
		t.Errorf("errors in the log: %q", lines)
	}
}
