package handlerchain

//lint:file-ignore SA1019 net/http's ClientConn has no Ping, whose answer shows that no GOAWAY came before it.

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// deadline bounds every wait of these tests.
const deadline = 20 * time.Second

// answer is what a client sees of one exchange.
type answer struct {
	Status  int
	Proto   string
	Header  http.Header
	Trailer http.Header
	Body    string
	// Broken is how the exchange ended, if not as it should.
	Broken string
	// Goodbye says that the server wants this connection to end.
	Goodbye bool
}

// wire is one connection to a server.
type wire interface {
	exchange(r *http.Request) answer
	close()
}

// dial opens a connection that speaks proto, which is "h2" or "http/1.1".
func dial(t *testing.T, address, proto string, shown *tls.Certificate) wire {
	t.Helper()
	config := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{proto}, ServerName: "server"}
	if shown != nil {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return shown, nil }
	}
	dialer := tls.Dialer{NetDialer: &net.Dialer{Timeout: deadline}, Config: config}
	conn, err := dialer.DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatalf("connecting to %s: %v", address, err)
	}
	if err := conn.SetDeadline(time.Now().Add(deadline)); err != nil {
		t.Fatal(err)
	}
	if proto == "http/1.1" {
		return newWire1(conn)
	}
	cc, err := (&http2.Transport{DisableCompression: true}).NewClientConn(conn)
	if err != nil {
		t.Fatalf("speaking HTTP/2 with %s: %v", address, err)
	}
	return &wire2{cc: cc, conn: conn}
}

type wire1 struct {
	conn net.Conn
	r    *bufio.Reader
}

func newWire1(conn net.Conn) *wire1 { return &wire1{conn: conn, r: bufio.NewReader(conn)} }

func (c *wire1) close() { _ = c.conn.Close() }

func (c *wire1) exchange(r *http.Request) answer {
	if err := r.Write(c.conn); err != nil && !isClosed(err) {
		return answer{Broken: err.Error()}
	}
	response, err := http.ReadResponse(c.r, r)
	if err != nil {
		return answer{Broken: plain(err), Goodbye: true}
	}
	a := read(response)
	if response.StatusCode == http.StatusSwitchingProtocols {
		rest, err := io.ReadAll(c.r)
		a.Body, a.Goodbye = string(rest), true
		if err != nil {
			a.Broken = plain(err)
		}
	}
	a.Goodbye = a.Goodbye || response.Close
	return a
}

type wire2 struct {
	cc   *http2.ClientConn
	conn net.Conn
}

func (c *wire2) close() { _ = c.cc.Close() }

func (c *wire2) exchange(r *http.Request) answer {
	response, err := c.cc.RoundTrip(r)
	a := answer{}
	if err != nil {
		a.Broken = plain(err)
	} else {
		a = read(response)
	}
	// The server's answer to a ping comes after what it said before.
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	if err := c.cc.Ping(ctx); err != nil {
		a.Goodbye = true
		return a
	}
	state := c.cc.State()
	a.Goodbye = state.Closing || state.Closed
	return a
}

func read(response *http.Response) answer {
	a := answer{Status: response.StatusCode, Proto: response.Proto, Header: response.Header.Clone()}
	if response.StatusCode == http.StatusSwitchingProtocols {
		return a
	}
	body, err := io.ReadAll(response.Body)
	_ = response.Body.Close()
	if err != nil {
		a.Broken = plain(err)
	}
	a.Body = brief(string(body))
	a.Trailer = response.Trailer.Clone()
	return a
}

// brief replaces a long text by its length and digest.
func brief(s string) string {
	if len(s) < 8<<10 {
		return s
	}
	return fmt.Sprintf("%d bytes, SHA-256 %x", len(s), sha256.Sum256([]byte(s)))
}

// plain is the text of an error without what differs between connections.
func plain(err error) string {
	var stream http2.StreamError
	switch {
	case errors.As(err, &stream):
		return "stream reset: " + stream.Code.String()
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "cut off"
	case errors.Is(err, io.EOF), isClosed(err):
		return "closed"
	}
	return err.Error()
}

func isClosed(err error) bool {
	text := err.Error()
	return errors.Is(err, net.ErrClosed) || strings.Contains(text, "connection reset") || strings.Contains(text, "broken pipe")
}
