// Package retry bounds how many requests are sent again, so that retries never
// multiply an overload.
package retry

import (
	"sync"
	"time"
)

// Budget allows a share of the requests to be retried. The zero Budget allows
// nothing; use NewBudget.
//
// It is a bucket of tokens: each request puts in a part of one, each retry
// takes out one, and a small stream of them comes with time, so that rare
// requests can be retried too.
type Budget struct {
	share float64 // tokens for each request
	rate  float64 // tokens for each second
	most  float64

	mu     sync.Mutex
	tokens float64
	last   time.Time
}

// NewBudget returns a full Budget: share is the part of requests that may be
// retried, rate the retries for each second beyond that, most how many retries
// may come at once.
func NewBudget(share, rate, most float64) *Budget {
	return &Budget{share: share, rate: rate, most: most, tokens: most}
}

// Request counts a request that was made.
func (b *Budget) Request() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tokens = min(b.most, b.tokens+b.share)
}

// Take says whether a retry is allowed now, and counts it.
func (b *Budget) Take(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.last.IsZero():
		b.last = now
	case now.After(b.last):
		b.tokens = min(b.most, b.tokens+b.rate*now.Sub(b.last).Seconds())
		b.last = now
	}
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}
