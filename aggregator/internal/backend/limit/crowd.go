package limit

import (
	"sync"
	"time"
)

const (
	// crowdRate is how many requests a second may be refused without asking
	// their clients to wait.
	crowdRate = 200
	// crowdWait bounds the wait that is asked for, in seconds: who waits does not
	// see the extension server return.
	crowdWait = 5
)

// Crowd spreads clients that are refused at once and try again: the more there
// are, the longer they are asked to wait. A few are not asked to: many clients
// take such a request for one to repeat by themselves.
type Crowd struct {
	mu          sync.Mutex
	second      int64
	count, last int // refused in this second, and in the one before
}

// Refuse counts one refused request and returns how many seconds its client is
// asked to wait, 5 at most; zero for no matter.
func (c *Crowd) Refuse(now time.Time) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch second := now.Unix(); second - c.second {
	case 0:
	case 1:
		c.second, c.count, c.last = second, 0, c.count
	default:
		c.second, c.count, c.last = second, 0, 0
	}
	c.count++
	return min(max(c.count, c.last)/crowdRate, crowdWait)
}
