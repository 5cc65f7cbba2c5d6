package handlerchain

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"testing"
	"time"

	"k8s.io/apiserver/pkg/endpoints/request"
)

// Interim answers arrive as they are, and nothing of them is taken for the answer: not
// by a filter that wraps the writer, and not by that of the deadline.
func TestInterimAnswersGoPastTheFilters(t *testing.T) {
	for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0"} {
		for _, longRunning := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, long-running %t", protocol, longRunning), func(t *testing.T) {
				seen := make(chan int, 10)
				chain := &claimedChain{filters: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("X-Filter", "yes")
					outer := noting{w, seen}
					send := Interim(r.Context())
					send(http.StatusEarlyHints, http.Header{"Link": {"</style.css>"}})
					send(http.StatusProcessing, nil)
					outer.WriteHeader(http.StatusNotFound)
					send(http.StatusEarlyHints, http.Header{"Link": {"</late.css>"}})
				})}
				server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					chain.serve(w, r.WithContext(&requestContext{Context: r.Context(), info: &request.RequestInfo{}, longRunning: longRunning}))
				}))
				server.EnableHTTP2 = protocol == "HTTP/2.0"
				server.StartTLS()
				defer server.Close()
				var got []string
				trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
					got = append(got, fmt.Sprint(code, header))
					return nil
				}}
				r, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), http.MethodGet, server.URL, nil)
				if err != nil {
					t.Fatal(err)
				}
				response, err := server.Client().Do(r)
				if err != nil {
					t.Fatal(err)
				}
				defer response.Body.Close()
				if want := []string{"103 map[Link:[</style.css>]]", "102 map[]"}; response.Proto != protocol || !slices.Equal(got, want) {
					t.Errorf("over %s the client got %q, want %q", response.Proto, got, want)
				}
				h := response.Header
				if response.StatusCode != http.StatusNotFound || h.Get("X-Filter") != "yes" || h["Audit-Id"] == nil || h.Get("Link") != "" {
					t.Errorf("the answer is %s %v", response.Status, h)
				}
				if code := <-seen; code != http.StatusNotFound || len(seen) > 0 {
					t.Errorf("the filter saw %d, and %d more", code, len(seen))
				}
			})
		}
	}
	if Interim(context.Background()) != nil {
		t.Error("requests of the usual chain get interim answers, at the same time as those of its timeout filter")
	}
}

// noting is a filter's writer that notes the status.
type noting struct {
	http.ResponseWriter
	seen chan<- int
}

func (n noting) WriteHeader(code int) {
	n.seen <- code
	n.ResponseWriter.WriteHeader(code)
}

// A client that has ended its side of the connection in the middle of a request is told
// that the request is malformed. In the reference it is told of a time limit.
func TestAClientThatBreaksOffItsRequestIsToldSo(t *testing.T) {
	past, over := context.WithDeadline(t.Context(), time.Now().Add(-time.Hour))
	defer over()
	for _, c := range []struct {
		what       string
		ends       func(cancel func()) context.Context
		code, want int
	}{
		{"it has left", nil, http.StatusBadRequest, http.StatusBadRequest},
		{"it has left", nil, http.StatusServiceUnavailable, http.StatusGatewayTimeout},
		{"its time is over", func(func()) context.Context { return past }, http.StatusBadRequest, http.StatusGatewayTimeout},
	} {
		for _, begun := range []bool{false, true} {
			if begun && c.ends != nil {
				continue
			}
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			if c.ends != nil {
				ctx = c.ends(leave)
			}
			recorder := httptest.NewRecorder()
			w := &deadlineWriter{ResponseWriter: recorder, ctx: ctx, reset: func(http.Header) {}}
			if begun { // it leaves between header and body
				w.WriteHeader(c.code)
			}
			leave()
			w.WriteHeader(c.code)
			_, err := w.Write([]byte("why"))
			want := c.want
			if begun {
				want = c.code
			}
			whole := err == nil && recorder.Body.String() == "why"
			if recorder.Code != want || whole != (c.want == http.StatusBadRequest) {
				t.Errorf("%s, %d, begun %t: %d %q %v, want %d", c.what, c.code, begun, recorder.Code, recorder.Body, err, want)
			}
		}
	}
}
