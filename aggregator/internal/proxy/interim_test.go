package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/annex-api/annex/aggregator/internal/backendtest"
	"github.com/annex-api/annex/internal/testcerts"
)

// startWith is an extension server that speaks one protocol.
func startWith(t *testing.T, protocol string, h http.HandlerFunc) *backendtest.Server {
	ca := testcerts.New("api")
	pair := ca.Issue(testcerts.Subject{Hosts: []string{backendtest.ServerName("api")}}).TLS()
	return backendtest.StartTLS(t, "api", ca.PEM, &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{protocol}}, h)
}

// hints are the interim answers that a client got.
type hints struct {
	mu  sync.Mutex
	got []string
}

func (h *hints) trace(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.got = append(h.got, fmt.Sprint(code, " ", header))
		return nil
	}})
}

func (f *front) getWithHints(t *testing.T, path string, client *http.Client) (*http.Response, []string) {
	t.Helper()
	var h hints
	r, err := http.NewRequestWithContext(h.trace(t.Context()), http.MethodGet, f.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = response.Body.Close() })
	h.mu.Lock()
	defer h.mu.Unlock()
	return response, h.got
}

func early(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Link", "</style.css>")
	w.Header().Set("Access-Control-Allow-Origin", "*")
	w.WriteHeader(http.StatusEarlyHints)
	w.Header().Del("Link")
	w.WriteHeader(http.StatusProcessing)
	w.Header().Set("X-Final", "yes")
	w.WriteHeader(http.StatusNotFound)
	_, _ = io.WriteString(w, "final")
}

func TestInterimAnswersArriveBeforeTheAnswer(t *testing.T) {
	for _, protocol := range []string{"http/1.1", "h2"} {
		t.Run(protocol, func(t *testing.T) {
			s := startWith(t, protocol, early)
			f := startFront(t, s.Claim(name), func(_ *Config, f *front) {
				f.wrap = func(h http.Handler) http.Handler {
					return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						w.Header().Set("X-Filter", "yes")
						h.ServeHTTP(w, r)
					})
				}
			})
			for _, path := range []string{"/things", "/things?watch=true", "/things/x/log"} {
				response, got := f.getWithHints(t, base+path, f.client)
				want := []string{"103 map[Link:[</style.css>]]", "102 map[]"}
				if !slices.Equal(got, want) {
					t.Errorf("%s: %q, want %q", path, got, want)
				}
				h := response.Header
				if body := read(t, response); response.StatusCode != 404 || body != "final" || h.Get("X-Final") != "yes" || h.Get("X-Filter") != "yes" || h.Get("Link") != "" {
					t.Errorf("%s: %d %q %v", path, response.StatusCode, body, h)
				}
			}
		})
	}
}

// Filters that wrap the ResponseWriter would take the status of an interim answer for
// the answer's: they get none, and the host says how to get past them.
func TestInterimAnswersGoPastFilters(t *testing.T) {
	s := startWith(t, "h2", early)
	for what, c := range map[string]struct {
		passes bool
		want   int
	}{"the host says how": {true, 2}, "it does not": {false, 0}} {
		t.Run(what, func(t *testing.T) {
			var mu sync.Mutex
			passed := 0
			f := startFront(t, s.Claim(name), func(config *Config, f *front) {
				if c.passes {
					config.Interim = func(context.Context) func(int, http.Header) {
						return func(int, http.Header) {
							mu.Lock()
							defer mu.Unlock()
							passed++
						}
					}
				}
				f.wrap = func(h http.Handler) http.Handler {
					return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(filtered{w}, r) })
				}
			})
			response, got := f.getWithHints(t, base+"/things", f.client)
			mu.Lock()
			defer mu.Unlock()
			if response.StatusCode != 404 || len(got) != 0 || passed != c.want {
				t.Errorf("%d, the client got %q, %d were passed", response.StatusCode, got, passed)
			}
		})
	}
}

type filtered struct{ http.ResponseWriter }

// Unwrap is what http.ResponseController looks for.
func (f filtered) Unwrap() http.ResponseWriter { return f.ResponseWriter }

// A client that asks for a protocol gets them too.
func TestInterimAnswersArriveBeforeAnUpgrade(t *testing.T) {
	s := startWith(t, "http/1.1", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</style.css>")
		w.WriteHeader(http.StatusEarlyHints)
		switching(t, "websocket", func(conn io.ReadWriteCloser, _ *bufio.Reader) { _, _ = io.WriteString(conn, "hello") }).ServeHTTP(w, r)
	})
	f := startFront(t, s.Claim(name))
	conn := f.dial(t)
	_, _ = io.WriteString(conn, upgradeRequest("websocket"))
	reader := bufio.NewReader(conn)
	for _, want := range []int{http.StatusEarlyHints, http.StatusSwitchingProtocols} {
		response, err := http.ReadResponse(reader, nil)
		if err != nil || response.StatusCode != want || want == http.StatusEarlyHints && response.Header.Get("Link") == "" {
			t.Fatalf("%+v, %v, want %d", response, err, want)
		}
	}
	if got, err := io.ReadAll(reader); string(got) != "hello" {
		t.Errorf("%q, %v", got, err)
	}
}

// An extension server that sends interim answers for ever is not listened to for ever.
func TestInterimAnswersAreBounded(t *testing.T) {
	for _, protocol := range []string{"http/1.1", "h2"} {
		for _, header := range []http.Header{nil, {"Connection": {"Upgrade"}, "Upgrade": {"websocket"}}} {
			if header != nil && protocol == "h2" {
				continue // upgrades are HTTP/1.1
			}
			t.Run(fmt.Sprint(protocol, header), func(t *testing.T) {
				s := startWith(t, protocol, func(w http.ResponseWriter, r *http.Request) {
					for range 2 * maxInterim {
						w.WriteHeader(http.StatusProcessing)
					}
					w.WriteHeader(http.StatusOK)
				})
				f := startFront(t, s.Claim(name))
				response := f.do(t, "POST", base+"/things", nil, header)
				if got := status(t, response); got.Code != 503 || !strings.HasPrefix(got.Message, noAnswer) {
					t.Errorf("%+v", got)
				}
			})
		}
	}
}

// To a client of HTTP/1.0 an interim answer would be the answer.
func TestClientsOfHTTP10GetNoInterimAnswers(t *testing.T) {
	f := startFront(t, startWith(t, "h2", early).Claim(name))
	conn := f.dial(t)
	_, _ = io.WriteString(conn, "GET "+base+"/things HTTP/1.0\r\nHost: front\r\n\r\n")
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusNotFound || response.Header.Get("X-Final") != "yes" {
		t.Errorf("%s, %v", response.Status, response.Header)
	}
}
