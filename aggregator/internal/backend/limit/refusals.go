package limit

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// promptRefusals is how many refusals a second one user gets at once.
	promptRefusals = 20
	// holdLeast and holdMost bound how long the others are held back.
	holdLeast = 4 * time.Second
	holdMost  = 8 * time.Second
	// maxHeld and maxHeldPerUser bound how many are held back at a time.
	maxHeld        = 10_000
	maxHeldPerUser = 4_000
	// maxHeldBodies bounds those among them whose request has a body: what nobody reads of
	// one stays in memory, 256 KiB over HTTP/2.
	maxHeldBodies = 200
	// maxRefusedUsers bounds the users whose refusals are counted.
	maxRefusedUsers = 1_000
)

// Refusals holds back the refusals of users who are refused all the time. A client
// that asks again at once, whatever it is told, then costs little: what is held back
// is a timer and the client's own request. Refusals over the bounds are not held
// back.
//
// The zero Refusals, and nil, hold back nothing.
type Refusals struct {
	over <-chan struct{}

	mu    sync.Mutex
	users map[string]*refusedUser
	held  int
	// heldBodies are those held whose request has a body.
	heldBodies int
}

// refusedUser is a user who was refused lately.
type refusedUser struct {
	refused perSecond
	held    int
}

// NewRefusals returns Refusals that hold back nothing any more once over is closed.
func NewRefusals(over <-chan struct{}) *Refusals {
	return &Refusals{over: over, users: map[string]*refusedUser{}}
}

// Held is how many refusals are held back now.
func (f *Refusals) Held() int {
	if f == nil {
		return 0
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.held
}

// Hold counts one refusal of a user, and returns when the user may be told: at once,
// while they are few. Otherwise a few seconds later, no later than half of the time
// that ctx leaves, and at once when ctx ends. Body says whether the request has one.
func (f *Refusals) Hold(ctx context.Context, name string, body bool) {
	if f == nil || f.users == nil {
		return
	}
	wait := f.begin(ctx, name, body, time.Now())
	if wait <= 0 {
		return
	}
	defer f.end(name, body)
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	case <-f.over:
	}
}

// begin says for how long a refusal is held back, and counts it among those that
// are; zero for one that is not.
func (f *Refusals) begin(ctx context.Context, name string, body bool, now time.Time) time.Duration {
	wait := holdLeast + rand.N(holdMost-holdLeast+1) // so that those who came together do not come again together
	if deadline, ok := ctx.Deadline(); ok {
		wait = min(wait, deadline.Sub(now)/2)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	u := f.user(name, now)
	if u == nil || u.refused.add(now) <= promptRefusals || wait <= 0 || f.held >= maxHeld || u.held >= maxHeldPerUser ||
		body && f.heldBodies >= maxHeldBodies {
		return 0
	}
	if body {
		f.heldBodies++
	}
	f.held++
	u.held++
	return wait
}

func (f *Refusals) end(name string, body bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if body {
		f.heldBodies--
	}
	f.held--
	f.users[name].held-- // nobody is forgotten who has some
}

// user finds or begins the record of a user; nil where there are too many.
func (f *Refusals) user(name string, now time.Time) *refusedUser {
	if u := f.users[name]; u != nil {
		return u
	}
	if len(f.users) >= maxRefusedUsers {
		for other, u := range f.users {
			if u.held == 0 && now.Unix()-u.refused.second > 1 {
				delete(f.users, other)
			}
		}
	}
	if len(f.users) >= maxRefusedUsers {
		return nil
	}
	u := &refusedUser{}
	f.users[name] = u
	return u
}
