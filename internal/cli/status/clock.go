package status

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/util/duration"
)

const (
	// ignored is a difference between clocks that the way of an answer explains.
	ignored = 30 * time.Second
	// notable is one that the user should know of.
	notable = 5 * time.Minute
)

// clock tells the API server's time, so that "since" is right where this machine's clock is not.
type clock struct {
	now    func() time.Time
	behind atomic.Int64 // how far this machine is, in nanoseconds
}

// watch learns the time from the answers to requests.
func (c *clock) watch(next http.RoundTripper) http.RoundTripper { return reader{next, c} }

type reader struct {
	next  http.RoundTripper
	clock *clock
}

func (r reader) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := r.next.RoundTrip(req)
	if err != nil {
		return resp, err
	}
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		behind := date.Sub(r.clock.now())
		if behind.Abs() < ignored {
			behind = 0
		}
		r.clock.behind.Store(int64(behind))
	}
	return resp, nil
}

// WrappedRoundTripper is how client-go finds what ends a request.
func (r reader) WrappedRoundTripper() http.RoundTripper { return r.next }

// server is the API server's time.
func (c *clock) server() time.Time { return c.now().Add(time.Duration(c.behind.Load())) }

// note says how far the clocks are apart, if that is much.
func (c *clock) note() string {
	behind := time.Duration(c.behind.Load())
	word := "behind"
	if behind < 0 {
		word = "ahead of"
	}
	if behind.Abs() < notable {
		return ""
	}
	return fmt.Sprintf("This machine's clock is %s %s the API server's; times are told by the API server's.", duration.HumanDuration(behind.Abs()), word)
}
