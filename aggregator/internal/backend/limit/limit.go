// Package limit bounds the requests that wait for one extension server, so that
// a slow one cannot use up what the others need, and no user what other users need.
package limit

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/annex-api/annex/aggregator/internal/backend/histogram"
)

// ErrFull means that the extension server has as many requests as it may, and
// the queue is full or the wait was too long. Clients should try again later.
var ErrFull = errors.New("too many requests are waiting for this extension server")

// Priority of a request.
type Priority int

const (
	// Ordinary requests have what is not reserved.
	Ordinary Priority = iota
	// High requests have half of the reserve as well.
	High
	// Exempt requests have all, and no bound for one user.
	Exempt

	priorities = iota
)

const (
	// reservedPart is which part of the places is reserved: one in so many.
	reservedPart = 10
	// userPart is which part of what is not reserved one user may have: one in so many.
	userPart = 2
	// maxSpares bounds the records of users that are kept for the next ones.
	maxSpares = 100
)

// Config of a Limiter.
type Config struct {
	// InFlight is how many requests may be under way at a time.
	InFlight int
	// PerUser is how many of them may be of one user, those of Exempt priority left
	// out. Zero does not bound them.
	PerUser int
	// Reserve is how many places, under way and in the queue each, are kept for
	// requests of High and Exempt priority; half of them, rounded down, for Exempt
	// alone.
	Reserve int
	// Queue is how many more may wait for one of them to end.
	Queue int
	// QueuePerUser bounds the part of the queue that one user may fill.
	QueuePerUser int
	// Wait bounds the time in the queue.
	Wait time.Duration
}

// Shared is c with the usual Reserve, a tenth and at least one place, and, where c
// has none, the usual bound for one user: half of what is not reserved. A single
// place is kept for nobody.
func (c Config) Shared() Config {
	c.Reserve = 0
	if c.InFlight > 1 {
		c.Reserve = max(1, c.InFlight/reservedPart)
	}
	if c.PerUser == 0 {
		c.PerUser = max(1, (c.InFlight-c.Reserve)/userPart)
	}
	return c
}

// Limiter admits requests. Those that wait are admitted user by user in turns:
// a user with a thousand requests delays one with a single request by one. Who has
// as many under way as one user may is passed over meanwhile.
type Limiter struct {
	mu       sync.Mutex
	config   Config
	inFlight perPriority
	queued   perPriority
	users    map[string]*user // those with requests under way or in the queue
	turns    []*queue         // that are not empty, the next one first
	spares   []*user
	waits    *histogram.Histogram
}

// Waits are the buckets of the times in a queue.
var Waits = histogram.Durations(time.Millisecond, 5*time.Millisecond, 25*time.Millisecond, 100*time.Millisecond,
	250*time.Millisecond, 500*time.Millisecond, time.Second, 2*time.Second, 5*time.Second)

// perPriority counts requests.
type perPriority [priorities]int

func (n *perPriority) total() int { return n[Ordinary] + n[High] + n[Exempt] }

// room says whether of most places one is left for a request of a priority. No
// priority may have what is kept from it, nor, together, those below it.
func (n *perPriority) room(most, reserve int, p Priority) bool {
	switch p {
	case Ordinary:
		return n[Ordinary] < most-reserve && n[Ordinary]+n[High] < most-reserve/2 && n.total() < most
	case High:
		return n[Ordinary]+n[High] < most-reserve/2 && n.total() < most
	default:
		return n.total() < most
	}
}

// user is somebody with requests here. One who is gone becomes the next one.
type user struct {
	name     string
	inFlight int
	queued   int
	queues   [priorities]queue
}

// queue holds the requests of a user that have one priority.
type queue struct {
	user     *user
	priority Priority
	waiting  []*waiter
	release  func() // ends one request that is under way
}

type waiter struct {
	admitted chan struct{}
	done     bool // admitted or given up; guarded by the Limiter's mu
}

// New returns a Limiter.
func New(config Config) *Limiter {
	return &Limiter{config: config, users: map[string]*user{}, waits: Waits.New()}
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
	return l.inFlight.total(), l.queued.total()
}

// Max is how many requests may be under way.
func (l *Limiter) Max() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.config.InFlight
}

// Waited is how long requests have been in the queue, admitted or not. Those that did not
// have to wait are left out.
func (l *Limiter) Waited() histogram.Counts { return l.waits.Read() }

// Acquire admits a request of a user, at once or after a wait. The caller calls
// release when the request has ended. The error is ErrFull, or the context's.
func (l *Limiter) Acquire(ctx context.Context, name string, priority Priority) (release func(), err error) {
	l.mu.Lock()
	u := l.user(name)
	q := &u.queues[priority]
	if l.hasRoom(q) { // nobody waits who could be admitted
		l.begin(q)
		l.mu.Unlock()
		return q.release, nil
	}
	if !l.queued.room(l.config.Queue, l.config.Reserve, priority) || u.queued >= l.config.QueuePerUser {
		l.forget(u)
		l.mu.Unlock()
		return nil, ErrFull
	}
	w := &waiter{admitted: make(chan struct{})}
	if q.waiting = append(q.waiting, w); len(q.waiting) == 1 {
		l.turns = append(l.turns, q)
	}
	l.queued[priority]++
	u.queued++
	wait := l.config.Wait
	l.mu.Unlock()
	began := time.Now()
	defer func() { l.waits.Count(int64(time.Since(began))) }()

	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-w.admitted:
		return q.release, nil
	case <-timer.C:
		err = ErrFull
	case <-ctx.Done():
		err = ctx.Err()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if w.done { // admitted in the same moment
		return q.release, nil
	}
	w.done = true
	l.leave(q, slices.Index(q.waiting, w))
	if len(q.waiting) == 0 {
		l.turns = slices.Delete(l.turns, slices.Index(l.turns, q), slices.Index(l.turns, q)+1)
	}
	l.forget(u)
	return nil, err
}

// user finds or begins the record of a user.
func (l *Limiter) user(name string) *user {
	u := l.users[name]
	switch n := len(l.spares); {
	case u != nil:
		return u
	case n > 0:
		u = l.spares[n-1]
		l.spares = l.spares[:n-1]
	default:
		u = &user{}
		for p := range u.queues {
			q := &u.queues[p]
			q.user, q.priority, q.release = u, Priority(p), func() { l.end(q) }
		}
	}
	u.name = name
	l.users[name] = u
	return u
}

// forget ends the record of a user who has nothing here any more.
func (l *Limiter) forget(u *user) {
	if u.inFlight > 0 || u.queued > 0 {
		return
	}
	delete(l.users, u.name)
	u.name = ""
	if len(l.spares) < maxSpares {
		l.spares = append(l.spares, u)
	}
}

// hasRoom says whether a request of a user may begin.
func (l *Limiter) hasRoom(q *queue) bool {
	return l.inFlight.room(l.config.InFlight, l.config.Reserve, q.priority) &&
		(q.priority == Exempt || l.config.PerUser == 0 || q.user.inFlight < l.config.PerUser)
}

func (l *Limiter) begin(q *queue) {
	l.inFlight[q.priority]++
	q.user.inFlight++
}

func (l *Limiter) end(q *queue) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inFlight[q.priority]--
	q.user.inFlight--
	l.admit()
	l.forget(q.user)
}

// admit lets waiting requests in while there is room, one of each user in turn.
func (l *Limiter) admit() {
	for i := 0; i < len(l.turns) && l.inFlight.total() < l.config.InFlight; {
		q := l.turns[i]
		if !l.hasRoom(q) {
			i++
			continue
		}
		w := q.waiting[0]
		l.leave(q, 0)
		l.turns = slices.Delete(l.turns, i, i+1)
		if len(q.waiting) > 0 {
			l.turns = append(l.turns, q)
		}
		w.done = true
		l.begin(q)
		close(w.admitted)
	}
}

// leave takes a request out of its queue.
func (l *Limiter) leave(q *queue, i int) {
	q.waiting = slices.Delete(q.waiting, i, i+1)
	l.queued[q.priority]--
	q.user.queued--
}
