package proxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strings"
	"time"

	"k8s.io/klog/v2"

	"github.com/annex-api/annex/aggregator/internal/backend"
	"github.com/annex-api/annex/aggregator/internal/backend/balance"
	"github.com/annex-api/annex/aggregator/internal/catalog"
	"github.com/annex-api/annex/aggregator/internal/respond"
)

const (
	// upgradeTimeout bounds the wait for an answer to an upgrade.
	upgradeTimeout = 30 * time.Second
	// refusalTimeout bounds the copying of an answer that refuses an upgrade.
	refusalTimeout = 10 * time.Second
	// maxUpgradeHeader bounds the header of an answer to an upgrade, in bytes.
	maxUpgradeHeader = 1 << 20
)

// upgrade sends the request on a connection of its own. Only an answer of 101
// makes a tunnel of the two connections; anything else ends both.
func (p *Proxy) upgrade(w http.ResponseWriter, r, out *http.Request, a *catalog.APIService, b *backend.Backend) {
	fail := func(reason respond.Reason, format string, args ...any) {
		respond.Write(w, r, respond.Fail{Reason: reason, APIService: a.Name, Message: fmt.Sprintf(format, args...)})
	}
	conn, choice, err := p.dialUpgrade(r, out, a, b)
	if none := (errUnresolved{}); errors.As(err, &none) {
		fail(respond.Unresolved, "service unavailable")
		return
	}
	if err != nil {
		p.config.ProbeNow(a)
		fail(respond.BackendFailed, "error dialing backend: %v", err)
		return
	}
	defer choice.Done(time.Now(), balance.Neutral)
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(upgradeTimeout))
	stop := context.AfterFunc(out.Context(), func() { _ = conn.Close() })
	defer stop()
	if err := out.Write(conn); err != nil {
		fail(respond.BackendFailed, "error sending request: %v", err)
		return
	}
	limited := &io.LimitedReader{R: conn, N: maxUpgradeHeader}
	fromBackend := bufio.NewReader(limited)
	response, err := http.ReadResponse(fromBackend, out)
	if err != nil {
		fail(respond.BackendFailed, "error reading the response to an upgrade: %v", err)
		return
	}
	defer response.Body.Close()
	limited.N = math.MaxInt64

	switch code := response.StatusCode; {
	case code == http.StatusSwitchingProtocols:
		if got := response.Header.Get("Upgrade"); !strings.EqualFold(got, out.Header.Get("Upgrade")) {
			fail(respond.UpgradeInvalid, "invalid upgrade response: the backend switched to %q", got)
			return
		}
		// From here on the connections live as long as their ends want to, not
		// as long as the request's deadline.
		if !stop() {
			return
		}
		_ = conn.SetDeadline(time.Time{})
		p.switchProtocols(w, r, response, newEnd(conn, fromBackend), a)
	case code < http.StatusBadRequest:
		fail(respond.UpgradeInvalid, "invalid upgrade response: status code %d", code)
	default:
		_ = conn.SetDeadline(time.Now().Add(refusalTimeout))
		cleanResponse(response.Header)
		// Nothing of the client's connection may be read as a second request.
		response.Header.Set("Connection", "close")
		copyResponse(w, r, response, nil)
	}
}

// dialUpgrade connects to an endpoint, another one where the first cannot be
// reached: nothing was sent then.
func (p *Proxy) dialUpgrade(r, out *http.Request, a *catalog.APIService, b *backend.Backend) (net.Conn, balance.Choice, error) {
	var tried []string
	for attempt := 1; ; attempt++ {
		choice, err := b.Pick(a.Target, tried...)
		if err != nil {
			return nil, choice, errUnresolved{err}
		}
		conn, err := b.DialUpgrade(out.Context(), choice.Address)
		if err == nil {
			choice.Note(time.Now(), balance.Answered)
			out.URL.Host, out.Host = choice.Address, choice.Address
			return conn, choice, nil
		}
		others := choice.Alternatives(time.Now())
		outcome := balance.Failed
		if r.Context().Err() != nil {
			outcome = balance.Neutral // the client left
		}
		choice.Done(time.Now(), outcome)
		if attempt == maxAttempts || !others || out.Context().Err() != nil || !b.TakeRetry() {
			return nil, choice, err
		}
		tried = append(tried, choice.Address)
	}
}

// switchProtocols writes the answer to the client and makes a tunnel of the two
// connections.
func (p *Proxy) switchProtocols(w http.ResponseWriter, r *http.Request, response *http.Response, backend *end, a *catalog.APIService) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		respond.Write(w, r, respond.Fail{
			Reason: respond.NotHijackable, APIService: a.Name,
			Message: fmt.Sprintf("error hijacking connection: %v", err),
		})
		return
	}
	defer conn.Close()
	logger := klog.FromContext(r.Context()).WithValues("apiService", a.Name)
	for _, name := range originHeaders {
		delete(response.Header, name)
	}
	var head bytes.Buffer
	fmt.Fprintf(&head, "HTTP/1.1 %03d %s\r\n", response.StatusCode, http.StatusText(response.StatusCode))
	_ = response.Header.Write(&head) // a buffer takes all
	head.WriteString("\r\n")
	if _, err := conn.Write(head.Bytes()); err != nil {
		logger.V(4).Info("Answering an upgrade failed", "err", err)
		return
	}
	defer p.served.hold(placeOf(a), &balance.Stream{End: func() { _ = backend.Close() }})()
	err = tunnel(newEnd(conn, buffered.Reader), backend)
	logger.V(4).Info("Upgraded connection ended", "err", err)
}
