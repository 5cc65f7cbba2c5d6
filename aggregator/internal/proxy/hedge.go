package proxy

import (
	"context"
	"errors"
	"time"
)

// errOvertaken is why an attempt is cancelled while another one is answered.
var errOvertaken = errors.New("another attempt was answered first")

// attemptFunc makes one attempt at a request. Whoever ends its answer cancels the
// context by that; after an error nobody needs to.
type attemptFunc func(ctx context.Context, cancel context.CancelCauseFunc) (*answer, error)

// hedge makes a first attempt at a request and, if it has not ended after a while, a
// second one beside it.
type hedge struct {
	after         time.Duration
	first, second attemptFunc
}

// run returns the first answer of either attempt. The other one is cancelled, because
// of errOvertaken, and has ended when run returns. If neither brings an answer, the
// error is the first attempt's. A panic of either is one of run.
func (h hedge) run(ctx context.Context) (*answer, error) {
	firstCtx, cancelFirst := context.WithCancelCause(ctx)
	secondCtx, cancelSecond := context.WithCancelCause(ctx)
	answers := make(chan *answer, 1) // has room for the first answer alone
	take := func(a *answer, cancelOther context.CancelCauseFunc) {
		select {
		case answers <- a:
			cancelOther(errOvertaken)
		default:
			a.end()
		}
	}
	var panicked any
	ended := make(chan struct{})
	late := time.AfterFunc(h.after, func() {
		defer close(ended)
		defer func() {
			if panicked = recover(); panicked != nil {
				cancelSecond(nil)
			}
		}()
		a, err := h.second(secondCtx, cancelSecond)
		if err != nil {
			cancelSecond(nil)
			return
		}
		take(a, cancelFirst)
	})

	a, err := h.first(firstCtx, cancelFirst)
	if err != nil {
		cancelFirst(nil)
	}
	if late.Stop() { // in time: there is no second attempt
		cancelSecond(nil)
		return a, err
	}
	if err == nil {
		take(a, cancelSecond)
	}
	<-ended
	if panicked != nil { // here the server recovers it, as it does the first one's
		cancelFirst(nil)
		select {
		case a := <-answers:
			a.end()
		default:
		}
		panic(panicked)
	}
	select {
	case a := <-answers:
		return a, nil
	default:
		return nil, err
	}
}
