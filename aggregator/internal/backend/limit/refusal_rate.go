package limit

import (
	"sync"
	"time"
)

const (
	// unspacedRefusals is how many requests a second may be refused without asking
	// their clients to wait.
	unspacedRefusals = 200
	// maxRefusalWait bounds the wait that is asked for, in seconds: a client that
	// waits does not see the extension server return.
	maxRefusalWait = 5
)

// RefusalRate counts requests that are refused at once, and says how long their
// clients are to wait: the more are refused in a second, the longer. While they are
// few no wait is asked for, as many clients repeat a request by themselves where one
// is.
type RefusalRate struct {
	mu      sync.Mutex
	refused perSecond
}

// Refuse counts one refused request and returns how many seconds its client is
// asked to wait, 5 at most; zero for no wait.
func (r *RefusalRate) Refuse(now time.Time) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return min(r.refused.add(now)/unspacedRefusals, maxRefusalWait)
}
