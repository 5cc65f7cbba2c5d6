package kubeapiserver_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	test "github.com/annex-api/annex/kubeapiserver/kubeapiservertest"
)

// websocket are the headers of an upgrade by Admin.
func websocket(more ...string) []string {
	return append([]string{
		"Authorization: Bearer " + test.Admin, "Connection: Upgrade", "Upgrade: websocket",
		"Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
	}, more...)
}

// Threat CVE-2018-1002105: after a refused upgrade the client goes on speaking
// on the connection, past authentication and authorization, as the proxy.
func TestAttackPipelinedRequestAfterRefusedUpgrade(t *testing.T) {
	const group = "pipelined.attack"
	e := server.Register(t, "pipelined", gv(group, "v1"))
	const refusal = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: keep-alive\r\nContent-Length: 13\r\n\r\nno upgrade!\r\n"
	type end struct {
		rest string
		err  error
	}
	backend := make(chan end, 1)
	e.Handle("/apis/"+group+"/v1/things", func(w http.ResponseWriter, _ *http.Request) {
		conn, err := test.Hijack(w, refusal)
		if err != nil {
			backend <- end{err: err}
			return
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(test.Deadline))
		rest, err := io.ReadAll(conn)
		backend <- end{string(rest), err}
	})
	second := "GET /apis/" + group + "/v1/secrets HTTP/1.1"
	stolen := []string{"X-Remote-User: system:admin", "X-Remote-Group: system:masters"}
	for _, atOnce := range []bool{true, false} {
		t.Run(fmt.Sprintf("atOnce=%v", atOnce), func(t *testing.T) {
			before := len(e.Requests(""))
			c := server.Dial(t, "http/1.1")
			c.Send(t, "GET /apis/"+group+"/v1/things HTTP/1.1", websocket()...)
			if atOnce {
				c.Send(t, second, stolen...)
			}
			a := c.Receive(t)
			if a.Code != http.StatusBadRequest || a.Body != "no upgrade!\r\n" {
				t.Errorf("the client got %d %q, want the backend's own answer", a.Code, a.Body)
			}
			if !atOnce {
				// The server may have closed already: then there is nobody to send to.
				_, _ = io.WriteString(c, second+"\r\nHost: x\r\n"+strings.Join(stolen, "\r\n")+"\r\n\r\n")
			}
			if rest := c.Rest(t); rest != "" {
				t.Errorf("the second request was answered: %q", rest)
			}
			if got := <-backend; got.rest != "" || got.err != nil {
				t.Errorf("the backend's connection: %q, %v; want it closed with nothing sent", got.rest, got.err)
			}
			if got := len(e.Requests("")) - before; got != 1 {
				t.Errorf("the backend saw %d requests, want 1", got)
			}
		})
	}
}

// Threat CVE-2020-8559: an upgrade is answered with 200 or a redirect, which a
// node's or extension server's attacker uses to have the request replayed.
func TestAttackUpgradeAnsweredWithoutSwitching(t *testing.T) {
	const group = "unswitched.attack"
	e := server.Register(t, "unswitched", gv(group, "v1"))
	victim := server.Register(t, "unswitched-victim", gv("victim."+group, "v1"))
	for _, code := range []int{200, 204, 301, 302, 303, 307, 308} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			e.Handle("*", func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", fmt.Sprintf("https://%s:%d/apis/stolen", "localhost", victim.Port))
				w.WriteHeader(code)
			})
			before, connections := len(e.Requests("")), victim.Connections()
			c := server.Dial(t, "http/1.1")
			c.Send(t, "GET /apis/"+group+"/v1/things HTTP/1.1", websocket()...)
			a := c.Receive(t)
			want := fmt.Sprintf("invalid upgrade response: status code %d", code)
			if a.Code != http.StatusServiceUnavailable || !strings.Contains(a.Body, want) {
				t.Errorf("the client got %d %s, want 503 %q", a.Code, a.Body, want)
			}
			if a.Header.Get("Location") != "" {
				t.Errorf("the client was sent on to %s", a.Header.Get("Location"))
			}
			if got := len(e.Requests("")) - before; got != 1 {
				t.Errorf("the backend saw %d requests, want 1", got)
			}
			if got := len(victim.Requests("")); got != 0 || victim.Connections() != connections {
				t.Errorf("the redirect's target saw %d requests and %d connections", got, victim.Connections()-connections)
			}
		})
	}
}

// Threat upgrade abuse: protocols other than WebSocket and SPDY would be
// tunnelled to the backend unseen.
func TestAttackUpgradeToOtherProtocols(t *testing.T) {
	const group = "protocols.attack"
	e := server.Register(t, "protocols", gv(group, "v1"))
	switched := func(w http.ResponseWriter, r *http.Request) {
		conn, err := test.Hijack(w, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+r.Header.Get("Upgrade")+"\r\n\r\n")
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.Copy(conn, conn)
	}
	e.Handle("*", switched)
	refused := map[string][]string{
		"unknown":             {"Connection: Upgrade", "Upgrade: foo"},
		"h2c":                 {"Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"},
		"list":                {"Connection: Upgrade", "Upgrade: websocket, foo"},
		"two lines":           {"Connection: Upgrade", "Upgrade: websocket", "Upgrade: foo"},
		"older SPDY":          {"Connection: Upgrade", "Upgrade: SPDY/2"},
		"in a list of tokens": {"Connection: keep-alive, uPgRaDe", "Upgrade: foo"},
	}
	for name, header := range refused {
		t.Run("refused "+name, func(t *testing.T) {
			c := server.Dial(t, "http/1.1")
			c.Send(t, "GET /apis/"+group+"/v1/things HTTP/1.1", append(header, "Authorization: Bearer "+test.Admin)...)
			a := c.Receive(t)
			if a.Code != http.StatusBadRequest || !strings.Contains(a.Body, "only upgrades to websocket and SPDY/3.1 are supported") {
				t.Errorf("the client got %d %s, want 400", a.Code, a.Body)
			}
			if got := e.Requests(""); len(got) != 0 {
				t.Errorf("the backend saw %v", got)
			}
		})
	}
	// Some front proxies send Connection: upgrade with every request. One that names no
	// protocol is an ordinary request, and nothing of an upgrade arrives.
	for name, header := range map[string][]string{
		"no protocol": {"Connection: Upgrade"},
		"empty":       {"Connection: Upgrade", "Upgrade: "},
	} {
		t.Run("ordinary "+name, func(t *testing.T) {
			before := len(e.Requests(""))
			c := server.Dial(t, "http/1.1")
			c.Send(t, "GET /apis/"+group+"/v1/things HTTP/1.1", append(header, "Authorization: Bearer "+test.Admin)...)
			if a := c.Receive(t); a.Code != http.StatusOK {
				t.Errorf("the client got %d %s, want 200", a.Code, a.Body)
			}
			got := e.Requests("")[before:]
			if len(got) != 1 || got[0].Header.Get("Connection") != "" || got[0].Header.Get("Upgrade") != "" {
				t.Errorf("the backend saw %v", got)
			}
		})
	}
	for _, protocol := range []string{"websocket", "WebSocket", "SPDY/3.1"} {
		t.Run("passed "+protocol, func(t *testing.T) {
			c := server.Dial(t, "http/1.1")
			c.Send(t, "GET /apis/"+group+"/v1/things HTTP/1.1",
				"Authorization: Bearer "+test.Admin, "Connection: Upgrade", "Upgrade: "+protocol)
			if a := c.Receive(t); a.Code != http.StatusSwitchingProtocols || !strings.EqualFold(a.Header.Get("Upgrade"), protocol) {
				t.Fatalf("the client got %d, Upgrade %q, want 101", a.Code, a.Header.Get("Upgrade"))
			}
			const message = "there and back"
			if _, err := io.WriteString(c, message); err != nil {
				t.Fatal(err)
			}
			echo := make([]byte, len(message))
			if _, err := io.ReadFull(c, echo); err != nil || string(echo) != message {
				t.Errorf("the echo is %q, %v", echo, err)
			}
		})
	}
	t.Run("answered with another protocol", func(t *testing.T) {
		e.Handle("*", func(w http.ResponseWriter, _ *http.Request) {
			if conn, err := test.Hijack(w, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\n"); err == nil {
				conn.Close()
			}
		})
		c := server.Dial(t, "http/1.1")
		c.Send(t, "GET /apis/"+group+"/v1/things HTTP/1.1", websocket()...)
		if a := c.Receive(t); a.Code != http.StatusServiceUnavailable || !strings.Contains(a.Body, "invalid upgrade response") {
			t.Errorf("the client got %d %s, want 503", a.Code, a.Body)
		}
	})
}

// A backend that switches protocols unasked would get a raw connection to the
// client.
func TestAttackSwitchingProtocolsUnasked(t *testing.T) {
	const group = "unasked.attack"
	e := server.Register(t, "unasked", gv(group, "v1"))
	e.UseHTTP1()
	e.Handle("*", func(w http.ResponseWriter, _ *http.Request) {
		if conn, err := test.Hijack(w, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nraw bytes"); err == nil {
			conn.Close()
		}
	})
	c := server.Dial(t, "http/1.1")
	c.Send(t, "GET /apis/"+group+"/v1/things HTTP/1.1", "Authorization: Bearer "+test.Admin)
	if a := c.Receive(t); a.Code < 500 || strings.Contains(a.Body, "raw bytes") {
		t.Errorf("the client got %d %s, want an error", a.Code, a.Body)
	}
}

// The header of an answer is bounded, or it fills the memory.
func TestAttackEndlessResponseHeader(t *testing.T) {
	const group = "endlessheader.attack"
	e := server.Register(t, "endlessheader", gv(group, "v1"))
	e.UseHTTP1()
	written := make(chan int, 1)
	e.Handle("*", func(w http.ResponseWriter, _ *http.Request) {
		total := 0
		defer func() { written <- total }()
		conn, err := test.Hijack(w, "HTTP/1.1 200 OK\r\n")
		if err != nil {
			return
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(test.Deadline))
		for {
			n, err := fmt.Fprintf(conn, "X-Endless-%d: %s\r\n", total, strings.Repeat("x", 4096))
			if total += n; err != nil {
				return
			}
		}
	})
	for way, header := range ways {
		t.Run(way, func(t *testing.T) {
			c := server.Dial(t, "http/1.1")
			c.Send(t, "GET /apis/"+group+"/v1/things HTTP/1.1", append(header[:len(header):len(header)], "Authorization: Bearer "+test.Admin)...)
			if a := c.Receive(t); a.Code != http.StatusServiceUnavailable {
				t.Errorf("the client got %d %.300s, want 503", a.Code, a.Body)
			}
			if got := <-written; got > 16<<20 {
				t.Errorf("%d bytes of header were taken", got)
			}
		})
	}
}

// Bytes that the backend sends together with its 101 belong to the client, and
// the end of one side ends the other.
func TestUpgradeKeepsEarlyBytesAndEndsBothSides(t *testing.T) {
	const group = "early.attack"
	e := server.Register(t, "early", gv(group, "v1"))
	ended := make(chan error, 1)
	fromClient := make(chan string, 1)
	e.Handle("*", func(w http.ResponseWriter, r *http.Request) {
		conn, err := test.Hijack(w, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nearly\n")
		if err != nil {
			ended <- err
			return
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(test.Deadline))
		reader := bufio.NewReader(conn)
		line, err := reader.ReadString('\n')
		if err != nil {
			ended <- err
			return
		}
		fromClient <- line
		_, err = reader.ReadByte()
		ended <- err
	})
	c := server.Dial(t, "http/1.1")
	c.Send(t, "GET /apis/"+group+"/v1/things HTTP/1.1", websocket()...)
	// Sent before the answer is there: it belongs to the new protocol.
	if _, err := io.WriteString(c, "hasty\n"); err != nil {
		t.Fatal(err)
	}
	if a := c.Receive(t); a.Code != http.StatusSwitchingProtocols {
		t.Fatalf("the client got %d %s, want 101", a.Code, a.Body)
	}
	early := make([]byte, len("early\n"))
	if _, err := io.ReadFull(c, early); err != nil || string(early) != "early\n" {
		t.Errorf("the client read %q, %v; want what came with the 101", early, err)
	}
	if got := <-fromClient; got != "hasty\n" {
		t.Errorf("the backend read %q", got)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != io.EOF {
		if n, ok := err.(net.Error); !ok || n.Timeout() {
			t.Errorf("the backend's connection ended with %v", err)
		}
	}
}
