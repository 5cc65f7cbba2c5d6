package proxy

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// plan is what one attempt of a test does.
type plan struct {
	takes time.Duration
	err   error
	// deaf attempts take as long as they take, though they are cancelled.
	deaf bool
}

// made is an attempt as a test sees it.
type made struct {
	plan   plan
	began  time.Time // zero if it was not made
	cause  error     // of its context when it ended
	ctx    context.Context
	answer *answer // nil after an error
	body   countingBody
}

type countingBody struct{ closed int }

func (b *countingBody) Read([]byte) (int, error) { return 0, errors.New("nobody reads it") }
func (b *countingBody) Close() error             { b.closed++; return nil }

func (m *made) attempt(ctx context.Context, cancel context.CancelCauseFunc) (*answer, error) {
	m.began, m.ctx = time.Now(), ctx
	defer func() { m.cause = context.Cause(ctx) }()
	cancelled := ctx.Done()
	if m.plan.deaf {
		cancelled = nil
	}
	select {
	case <-time.After(m.plan.takes):
	case <-cancelled:
		return nil, ctx.Err()
	}
	if m.plan.err != nil {
		return nil, m.plan.err
	}
	m.answer = &answer{Response: &http.Response{Body: &m.body}, cancel: cancel}
	return m.answer, nil
}

const (
	after    = 800 * time.Millisecond
	inTime   = after / 2
	tooLate  = 2 * after
	muchMore = 10 * after
)

var (
	errFirst  = errors.New("the first attempt failed")
	errSecond = errors.New("the second attempt failed")
)

func TestHedge(t *testing.T) {
	type want struct {
		first, second bool // whose answer it is
		err           error
		took          time.Duration
		made          bool  // the second attempt
		cause         error // of the context of the one whose answer it is not
	}
	for what, c := range map[string]struct {
		first, second plan
		want          want
	}{
		"an answer in time":              {plan{takes: inTime}, plan{}, want{first: true, took: inTime}},
		"an error in time":               {plan{takes: inTime, err: errFirst}, plan{}, want{err: errFirst, took: inTime}},
		"the second is answered":         {plan{takes: muchMore}, plan{takes: inTime}, want{second: true, took: after + inTime, made: true, cause: errOvertaken}},
		"the first is answered late":     {plan{takes: tooLate}, plan{takes: muchMore}, want{first: true, took: tooLate, made: true, cause: errOvertaken}},
		"the second fails":               {plan{takes: tooLate}, plan{err: errSecond}, want{first: true, took: tooLate, made: true}},
		"the first fails, the second is": {plan{takes: tooLate, err: errFirst}, plan{takes: tooLate}, want{second: true, took: after + tooLate, made: true}},
		"both fail, the first one first": {plan{takes: tooLate, err: errFirst}, plan{takes: tooLate, err: errSecond}, want{err: errFirst, took: after + tooLate, made: true}},
		"both fail, the second one first": {
			plan{takes: tooLate, err: errFirst}, plan{err: errSecond}, want{err: errFirst, took: tooLate, made: true},
		},
		"the first is deaf and answers after the second": {
			plan{takes: muchMore, deaf: true}, plan{takes: inTime}, want{second: true, took: muchMore, made: true, cause: errOvertaken},
		},
		"the second is deaf and answers after the first": {
			plan{takes: tooLate}, plan{takes: tooLate, deaf: true}, want{first: true, took: after + tooLate, made: true, cause: errOvertaken},
		},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				first, second := &made{plan: c.first}, &made{plan: c.second}
				start := time.Now()
				answer, err := hedge{after: after, first: first.attempt, second: second.attempt}.run(t.Context())
				if took := time.Since(start); took != c.want.took {
					t.Errorf("took %s, want %s", took, c.want.took)
				}
				if !errors.Is(err, c.want.err) || (err == nil) != (answer != nil) {
					t.Errorf("%v and %v, want the error %v", answer, err, c.want.err)
				}
				if c.want.made != !second.began.IsZero() || c.want.made && second.began.Sub(start) != after {
					t.Errorf("the second attempt was made at %v, want %v", second.began, c.want.made)
				}
				if c.want.first && answer != first.answer || c.want.second && answer != second.answer {
					t.Error("it is the other attempt's answer")
				}
				loser := first
				if c.want.first {
					loser = second
				}
				if c.want.cause != nil && !errors.Is(context.Cause(loser.ctx), c.want.cause) {
					t.Errorf("the other attempt was cancelled because of %v, want %v", context.Cause(loser.ctx), c.want.cause)
				}
				settled(t, answer, first, second)
			})
		})
	}
}

// Whatever comes first, one answer is left, its context is not cancelled, and nothing
// else is left open.
func TestHedgeInAnyOrder(t *testing.T) {
	moments := []time.Duration{0, 1, inTime, after - 1, after, after + 1, after + inTime, tooLate}
	for _, firstTakes := range moments {
		for _, secondTakes := range moments {
			for failing := range 4 {
				for deaf := range 4 {
					synctest.Test(t, func(t *testing.T) {
						first := &made{plan: plan{takes: firstTakes, deaf: deaf&1 != 0}}
						second := &made{plan: plan{takes: secondTakes, deaf: deaf&2 != 0}}
						if failing&1 != 0 {
							first.plan.err = errFirst
						}
						if failing&2 != 0 {
							second.plan.err = errSecond
						}
						answer, err := hedge{after: after, first: first.attempt, second: second.attempt}.run(t.Context())
						failed := failing&1 != 0 && (failing&2 != 0 || second.began.IsZero())
						if (err != nil) != failed || (answer == nil) != failed || failed && !errors.Is(err, errFirst) {
							t.Errorf("first %+v, second %+v: %v and %v", first.plan, second.plan, answer, err)
						}
						settled(t, answer, first, second)
					})
				}
			}
		}
	}
}

func TestHedgeEndsWithItsClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		left := errors.New("the client left")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(tooLate, func() { cancel(left) })
		first, second := &made{plan: plan{takes: muchMore}}, &made{plan: plan{takes: muchMore}}
		answer, err := hedge{after: after, first: first.attempt, second: second.attempt}.run(ctx)
		if answer != nil || !errors.Is(err, context.Canceled) || !errors.Is(first.cause, left) || !errors.Is(second.cause, left) {
			t.Errorf("%v and %v; the attempts ended because of %v and %v", answer, err, first.cause, second.cause)
		}
	})
}

// settled checks that the answer can be read and that all else has ended.
func settled(t *testing.T, answer *answer, attempts ...*made) {
	t.Helper()
	for i, m := range attempts {
		switch {
		case m.began.IsZero():
		case m.answer != nil && m.answer == answer:
			if m.ctx.Err() != nil || m.body.closed != 0 {
				t.Errorf("the answer of attempt %d is of no use: %v, closed %d times", i+1, m.ctx.Err(), m.body.closed)
			}
			answer.end()
		default:
			if m.ctx.Err() == nil || m.answer != nil && m.body.closed != 1 {
				t.Errorf("attempt %d was not ended: %v, closed %d times", i+1, m.ctx.Err(), m.body.closed)
			}
		}
	}
}

// A goroutine's panic would end the process.
func TestAPanicOfTheSecondAttemptIsThatOfTheRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := &made{plan: plan{takes: muchMore}}
		second := func(context.Context, context.CancelCauseFunc) (*answer, error) { panic("of the second") }
		defer func() {
			if got := recover(); got != "of the second" {
				t.Errorf("recovered %v", got)
			}
			if first.ctx.Err() == nil {
				t.Error("the first attempt goes on")
			}
		}()
		_, err := hedge{after, first.attempt, second}.run(t.Context())
		t.Errorf("returned %v", err)
	})
}
