package gather

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/annex-api/annex/diagnosis"
	"github.com/annex-api/annex/internal/testcerts"
)

// slowServer answers over one connection, each step after a time.
type slowServer struct {
	dial, handshake, answer time.Duration
	// dialFails is why there is no connection.
	dialFails error
}

func (s slowServer) connect(t *testing.T, certificate tls.Certificate) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		select {
		case <-time.After(s.dial):
		case <-ctx.Done():
			return nil, closedWay{ctx.Err()}
		}
		if s.dialFails != nil {
			return nil, closedWay{s.dialFails}
		}
		client, raw := net.Pipe()
		pause := func(d time.Duration) {
			select {
			case <-time.After(d):
			case <-ctx.Done():
			}
		}
		go func() { // ends with the attempt
			pause(s.handshake)
			conn := tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12})
			defer conn.Close()
			for requests := bufio.NewReader(conn); ; {
				if _, err := http.ReadRequest(requests); err != nil {
					return
				}
				pause(s.answer)
				if _, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"); err != nil {
					return
				}
			}
		}()
		return client, nil
	}
}

// What the way to an endpoint takes of the time is not the endpoint's, and a way that takes all of it
// shows nothing.
func TestEachStepOfAnAttemptHasItsOwnTime(t *testing.T) {
	certificate := testcerts.New("an authority").Issue(testcerts.Subject{Name: "things", Hosts: []string{"things.shop.svc"}}).TLS()
	const nearly, never = attemptTimeout - time.Second, 100 * attemptTimeout
	for name, c := range map[string]struct {
		server slowServer
		check  func(diagnosis.Known[diagnosis.Attempt]) bool
	}{
		"each step is slow": {slowServer{nearly, nearly, time.Second, nil}, func(k diagnosis.Known[diagnosis.Attempt]) bool {
			return k.Value.Failure == "" && k.Value.TLSFailure == "" && k.Value.GroupVersion != nil && k.Value.GroupVersion.Code == http.StatusOK
		}},
		"no connection": {slowServer{dial: never}, func(k diagnosis.Known[diagnosis.Attempt]) bool {
			return !k.Seen && errors.Is(k.Why(), diagnosis.ErrTimedOut)
		}},
		"no way": {slowServer{dialFails: errors.New("create stream: timed out")}, func(k diagnosis.Known[diagnosis.Attempt]) bool { return !k.Seen }},
		"no handshake": {slowServer{handshake: never}, func(k diagnosis.Known[diagnosis.Attempt]) bool {
			return k.Seen && k.Value.Failure == "" && strings.Contains(k.Value.TLSFailure, "timed out")
		}},
		"no answer": {slowServer{answer: never}, func(k diagnosis.Known[diagnosis.Attempt]) bool {
			return k.Seen && k.Value.TLSFailure == "" && len(k.Value.Chain) == 1 && strings.Contains(k.Value.GroupVersion.Failure, "timed out")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := &gathering{cluster: &cluster{slots: make(chan struct{}, 1)}}
				q := question{serverName: "things.shop.svc", path: "/apis/things.example.com/v1"}
				got := g.attempt(t.Context(), q, c.server.connect(t, certificate))
				if !c.check(got) {
					t.Errorf("got %+v", got)
				}
			})
		})
	}
}
