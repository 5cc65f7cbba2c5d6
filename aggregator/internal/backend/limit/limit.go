// Package limit bounds the requests that wait for one extension server, so that
// a slow one cannot use up what the others need.
package limit

import (
	"context"
	"errors"
	"sync"
	"time"
)

// ErrFull means that the extension server has as many requests as it may, and
// the queue is full or the wait was too long. Clients should try again later.
var ErrFull = errors.New("too many requests are waiting for this extension server")

// Config of a Limiter.
type Config struct {
	// InFlight is how many requests may be under way at a time.
	InFlight int
	// Queue is how many more may wait for one of them to end.
	Queue int
	// QueuePerUser bounds the part of the queue that one user may fill.
	QueuePerUser int
	// Wait bounds the time in the queue.
	Wait time.Duration
}

// Limiter admits requests. Those that wait are admitted user by user in turns:
// a user with a thousand requests delays one with a single request by one.
type Limiter struct {
	mu       sync.Mutex
	config   Config
	inFlight int
	queued   int
	users    map[string]*userQueue
	turns    []*userQueue // users with requests in the queue, the next one first
}

type userQueue struct {
	name    string
	waiting []*waiter
}

type waiter struct {
	admitted chan struct{}
	done     bool // admitted or given up; guarded by the Limiter's mu
}

// New returns a Limiter.
func New(config Config) *Limiter {
	return &Limiter{config: config, users: map[string]*userQueue{}}
}

// Set changes the limits; requests under way stay.
func (l *Limiter) Set(config Config) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.config = config
	l.admit()
}

// InFlight and Queued are the present numbers of requests.
func (l *Limiter) InFlight() (inFlight, queued int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.inFlight, l.queued
}

// Acquire admits a request of a user, at once or after a wait. The caller calls
// release when the request has ended. The error is ErrFull, or the context's.
func (l *Limiter) Acquire(ctx context.Context, user string) (release func(), err error) {
	l.mu.Lock()
	if l.inFlight < l.config.InFlight && l.queued == 0 {
		l.inFlight++
		l.mu.Unlock()
		return l.release, nil
	}
	q := l.users[user]
	if l.queued >= l.config.Queue || (q != nil && len(q.waiting) >= l.config.QueuePerUser) {
		l.mu.Unlock()
		return nil, ErrFull
	}
	if q == nil {
		q = &userQueue{name: user}
		l.users[user] = q
		l.turns = append(l.turns, q)
	}
	w := &waiter{admitted: make(chan struct{})}
	q.waiting = append(q.waiting, w)
	l.queued++
	wait := l.config.Wait
	l.mu.Unlock()

	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-w.admitted:
		return l.release, nil
	case <-timer.C:
		err = ErrFull
	case <-ctx.Done():
		err = ctx.Err()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if w.done { // admitted in the same moment
		return l.release, nil
	}
	w.done = true
	l.remove(q, w)
	return nil, err
}

func (l *Limiter) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inFlight--
	l.admit()
}

// admit lets waiting requests in while there is room, one of each user in turn.
func (l *Limiter) admit() {
	for l.inFlight < l.config.InFlight && len(l.turns) > 0 {
		q := l.turns[0]
		w := q.waiting[0]
		l.turns = l.turns[1:]
		q.waiting = q.waiting[1:]
		l.queued--
		if len(q.waiting) > 0 {
			l.turns = append(l.turns, q)
		} else {
			delete(l.users, q.name)
		}
		w.done = true
		l.inFlight++
		close(w.admitted)
	}
}

func (l *Limiter) remove(q *userQueue, w *waiter) {
	for i, other := range q.waiting {
		if other == w {
			q.waiting = append(q.waiting[:i], q.waiting[i+1:]...)
			l.queued--
			break
		}
	}
	if len(q.waiting) > 0 {
		return
	}
	delete(l.users, q.name)
	for i, other := range l.turns {
		if other == q {
			l.turns = append(l.turns[:i], l.turns[i+1:]...)
			break
		}
	}
}
