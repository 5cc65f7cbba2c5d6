package proxy

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/annex-api/annex/aggregator/internal/backend"
	"github.com/annex-api/annex/aggregator/internal/catalog"
	"github.com/annex-api/annex/aggregator/internal/respond"
)

// bodyWait is how long a request waits for the whole of its body before it is sent
// with what has arrived.
const bodyWait = 250 * time.Millisecond

// admit returns when the request may be sent, with what ends its admission, or why it
// may not.
//
// A client decides how long its body takes. While it does not arrive, the request
// holds a place among those that are sending, of which its user has so many, and none
// that the extension server works in. It is sent nevertheless, as an extension server
// may answer before the end of a body; but the end is passed on only when the request
// has a place among those under way.
func (p *Proxy) admit(r *http.Request, a *catalog.APIService, b *backend.Backend, sender backend.Sender, k kind, body *replayBody) (release func(), late *lateBody, refusal *backend.Refusal) {
	ctx := r.Context()
	if k.longRunning || k.upgrade {
		release, refusal = b.Admit(ctx, a, sender, backend.LongRunning)
		return release, nil, refusal
	}
	if body == nil {
		release, refusal = b.Admit(ctx, a, sender, backend.UnderWay)
		return release, nil, refusal
	}
	leave, refusal := b.Admit(ctx, a, sender, backend.Sending)
	if refusal != nil {
		return nil, nil, refusal
	}
	// A client that expects 100 Continue sends nothing before the extension server
	// asks for it.
	if len(r.Header["Expect"]) == 0 && body.arrive(ctx, bodyWait) {
		leave()
		release, refusal = b.Admit(ctx, a, sender, backend.UnderWay)
		return release, nil, refusal
	}
	waiting, stop := context.WithCancel(ctx)
	late = &lateBody{sender: sender, place: leave, stop: stop}
	body.atEnd = func() error {
		return late.admitEnd(func() (func(), *backend.Refusal) { return b.Admit(waiting, a, sender, backend.UnderWay) })
	}
	return late.release, late, nil
}

// errEndRefused takes the place of the end of a body.
var errEndRefused = errors.New("the end of the body is not passed on: the request is refused")

// lateBody is the admission of a request whose body has not arrived when it is sent.
// Nil is that of any other.
type lateBody struct {
	sender backend.Sender

	stop func() // ends the wait for a place among those under way

	once sync.Once

	mu       sync.Mutex
	place    func() // gives up the place: that among those that are sending, and then that among those under way
	answered bool   // by the extension server
	over     bool
	refusal  *backend.Refusal
}

// admitEnd is called when the end of the body has arrived, by each attempt. It returns
// an error where that may not be passed on.
func (l *lateBody) admitEnd(admit func() (func(), *backend.Refusal)) error {
	l.once.Do(func() {
		if giveUp := l.take(admit()); giveUp != nil {
			giveUp()
		}
	})
	if l.refused() != nil {
		return errEndRefused
	}
	return nil
}

// take takes note of what was decided, and returns what gives up a place that the request
// does not need any more; nil for none.
func (l *lateBody) take(end func(), refusal *backend.Refusal) (giveUp func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case refusal == nil && l.over: // the request has ended meanwhile
		return end
	case refusal == nil:
		giveUp, l.place = l.place, end
		return giveUp
	case !l.answered: // else it is too late to refuse it
		l.refusal = refusal
	}
	return nil
}

// refused is why the end of the body was not passed on, if it was not.
func (l *lateBody) refused() *backend.Refusal {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.refusal
}

// noteAnswer takes note that the extension server has answered, perhaps before the
// end of the body.
func (l *lateBody) noteAnswer() {
	if l == nil {
		return
	}
	l.mu.Lock()
	l.answered = true
	l.mu.Unlock()
	l.stop()
}

// release ends the admission; a second call has no effect.
func (l *lateBody) release() {
	l.mu.Lock()
	again, giveUp := l.over, l.place
	l.over = true
	l.mu.Unlock()
	if again {
		return
	}
	l.stop()
	giveUp()
}

// refuse tells a client why its request is not sent. A user who is refused all the
// time is told later.
func (p *Proxy) refuse(w http.ResponseWriter, r *http.Request, a *catalog.APIService, sender backend.Sender, refusal *backend.Refusal) {
	p.config.Backends.HoldRefusal(r.Context(), sender, r.ContentLength != 0)
	f := respond.Fail{APIService: a.Name, RetryAfter: refusal.RetryAfter}
	switch refusal.Reason {
	case backend.Unavailable:
		f.Reason, f.Cause = respond.Unavailable, a.Verdict.Reason
	case backend.Unusable:
		f.Reason, f.Message = respond.TransportInvalid, refusal.Err.Error()
	case backend.Full:
		f.Reason = respond.TooMany
	}
	p.fail(w, r, f)
}
