package handlerchain

import (
	"context"
	"net/http"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/waitgroup"
)

// TestWhatIsLeftToTheUsualChain sends what the claimed chain does not do itself.
// Many effects are the same in both chains, so the way is looked at.
func TestWhatIsLeftToTheUsualChain(t *testing.T) {
	w := newWorld(t, newIdentities(t), ours, func(_ *testing.T, w *world) {
		w.config.ShutdownWatchTerminationGracePeriod = time.Second
	})
	w.warm(t)
	upgrade := func(pairs ...string) http.Header {
		return with(append([]string{"Connection", "Upgrade", "Upgrade", "test"}, pairs...)...)
	}
	for _, c := range []struct {
		call
		claimed int64
	}{
		{call{name: "a GET", target: widget}, 1},
		{call{name: "an upgrade", target: widget, header: upgrade()}, 0},
		{call{name: "an upgrade that is taken over", target: widget, header: upgrade("X-Do", "hijack")}, 0},
		{call{name: "an upgrade of a session", method: "POST", target: api + "/namespaces/ns/pods/p/exec", header: upgrade("X-Do", "hijack")}, 0},
		{call{name: "the first watch", target: widgets + "?watch=1"}, 0},
		{call{name: "the second watch", target: widgets + "?watch=1"}, 1},
		{call{name: "a bogus timeout", target: widget + "?timeout=bogus"}, 0},
	} {
		w.inner.claimed.Store(0)
		conn := dial(t, w.address, "http/1.1", w.ids.shown["alice"])
		conn.exchange(c.request(t.Context(), t))
		conn.close()
		w.idle(t)
		if got := w.inner.claimed.Load(); got != c.claimed {
			t.Errorf("%s: %d requests through the claimed chain, want %d", c.name, got, c.claimed)
		}
	}
}

// TestRequestsAreCountedForTheEnd asks how many requests the server's end has to
// wait for, while one is being served.
func TestRequestsAreCountedForTheEnd(t *testing.T) {
	ids := newIdentities(t)
	for _, c := range []struct {
		name, target      string
		requests, watches int
	}{
		{"a request", widget, 1, 0},
		{"a watch", widgets + "?watch=1", 0, 1},
	} {
		for i, build := range []chain{reference, ours} {
			t.Run(c.name+[]string{", reference", ", ours"}[i], func(t *testing.T) {
				w := newWorld(t, ids, build, func(_ *testing.T, w *world) {
					w.config.ShutdownWatchTerminationGracePeriod = time.Second
				})
				w.warm(t)
				conn := dial(t, w.address, "h2", ids.shown["alice"])
				defer conn.close()
				conn.exchange(call{target: widgets + "?watch=1"}.request(t.Context(), t)) // the first, which brings the signal
				w.inner.claimed.Store(0)
				ended := make(chan answer, 1)
				r := call{target: c.target, header: does("hold")}.request(t.Context(), t)
				go func() { ended <- conn.exchange(r) }()
				select {
				case <-w.inner.entered:
				case <-time.After(deadline):
					t.Fatal("no request is held")
				}
				if got := w.inner.claimed.Load(); got != int64(i) {
					t.Errorf("%d requests through the claimed chain, want %d", got, i)
				}
				watches, _, _ := w.config.WatchRequestWaitGroup.Wait(atOnce)
				if requests := counted(w.config.NonLongRunningRequestWaitGroup); requests != c.requests || watches != c.watches {
					t.Errorf("%d requests and %d watches are waited for, want %d and %d", requests, watches, c.requests, c.watches)
				}
				w.inner.release <- struct{}{}
				<-ended
			})
		}
	}
}

// counted says how many requests are counted, 0 or 1. A wait group tells that only
// by what it makes of one that ends too much.
func counted(group *waitgroup.SafeWaitGroup) (n int) {
	defer func() {
		if recover() != nil {
			n = 0
		}
		_ = group.Add(1) // as it was; nobody waits yet
	}()
	group.Done()
	return 1
}

// atOnce waits for nobody.
func atOnce(int) (waitgroup.RateLimiter, context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return unlimited{}, ctx, cancel
}

type unlimited struct{}

func (unlimited) Wait(context.Context) error { return nil }
