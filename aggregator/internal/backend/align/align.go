// Package align has pauses end together: loops and timers that wake a quiet
// server at the same moments cost less than those that wake it one by one.
package align

import "time"

// Step is the time between the moments at which pauses end: multiples of it since
// the Unix epoch. Connections are checked so long after a request: that comes with
// the next requests.
const Step = 3 * time.Second

// Sooner is d, or up to an eighth less, so that a pause that begins now ends on such
// a moment. A pause for which there is none so near stays as it is.
func Sooner(d time.Duration) time.Duration { return sooner(time.Now(), d) }

func sooner(now time.Time, d time.Duration) time.Duration {
	late := time.Duration(now.Add(d).UnixNano() % int64(Step))
	if late > d/8 {
		return d
	}
	return d - late
}
